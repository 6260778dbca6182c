"""Text to token ids and back, and conversations to the text a model was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..checkpoints import checkpoint
from ..errors import ArgumentError, FormatError, UnsupportedError
from .messages import Message, Shield, check, plain
from .template import ChatTemplate, put_another

_SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # a space inside an entry's text


class Tokenizer:
    """A checkpoint's tokenizer. Immutable; threads may share it.

    Attributes:
        bos_token, eos_token, pad_token, unk_token: the special tokens' text, or None.
        bos_token_id, eos_token_id, pad_token_id, unk_token_id: their ids, or None.
        vocab_size: number of entries, added ones included.
        chat_template: the template's source, or None.
    """

    def __init__(
        self,
        core: _core.Tokenizer,
        config: Mapping[str, Any],
        template: ChatTemplate | None,
        place: Path,
        rows: int | None = None,
    ):
        """config: the special tokens' texts, as "bos_token" and so on; place: the folder or file it comes from; rows:
        of the embedding that its ids are for; None: as many as it has entries."""
        self._core = core
        self.bos_token, self.bos_token_id = self._named(config, "bos")
        self.eos_token, self.eos_token_id = self._named(config, "eos")
        self.pad_token, self.pad_token_id = self._named(config, "pad")
        self.unk_token, self.unk_token_id = self._named(config, "unk")
        self.vocab_size = self._core.size
        self._template = template
        self._place = place
        self._rows = self.vocab_size if rows is None else rows

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, trust_template: bool = False) -> Tokenizer:
        """The tokenizer of a folder, or of "fairy", the bundled demo.

        Args:
            trust_template: render the folder's chat template in this process, without limits. Otherwise a template
                that gemmule does not know is rendered in a helper process with 256 MB, 2 s and no way out.

        Raises:
            MissingFileError: no folder, or no tokenizer.json in it.
            FormatError: a file in it is broken.
        """
        trusted = arguments.flag("trust_template", trust_template)
        return cls.from_folder(checkpoint.find(folder), trust_template=trusted)

    @classmethod
    def from_folder(cls, place: Path, *, trust_template: bool, rows: int | None = None) -> Tokenizer:
        """The tokenizer of a folder, for a model with so many rows, if there is one."""
        core = _core.Tokenizer.open(str(checkpoint.require_file(place / "tokenizer.json")))
        config = checkpoint.read_json(place / "tokenizer_config.json")
        return cls(core, config, ChatTemplate.find(place, trusted=trust_template), place, rows)

    @classmethod
    def from_gguf(
        cls, core: _core.Tokenizer, metadata: Mapping[str, Any], file: Path, *, trust_template: bool = False
    ) -> Tokenizer:
        """The tokenizer that a GGUF file describes in its metadata."""
        # Gemma's special tokens are spelled alike everywhere; the ids in the metadata are those of these.
        return cls(core, {}, ChatTemplate.of_gguf(metadata, file, trusted=trust_template), file)

    @property
    def chat_template(self) -> str | None:
        return self._template.source if self._template else None

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of `text`.

        Args:
            add_special_tokens: put BOS in front, once; a `<bos>` in the text itself is not looked at.
            parse_special: special tokens spelled in the text become their ids; otherwise they stay ordinary text.

        Raises FormatError where the tokenizer is a model's that has no row for one of them.
        """
        ids = self._encode(text, arguments.flag("parse_special", parse_special))
        if arguments.flag("add_special_tokens", add_special_tokens) and self.bos_token_id is not None:
            ids.insert(0, self.bos_token_id)
        return self._within_rows(ids)

    def decode(self, ids: arguments.TokenIds, skip_special_tokens: bool = False) -> str:
        """Text of `ids` (any sequence or one-dimensional array of integers; may be empty)."""
        return self._core.decode(_ids(ids), arguments.flag("skip_special_tokens", skip_special_tokens))

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[dict[str, Any]] | None = None,
        enable_thinking: bool = False,
    ) -> str:
        """The text that the checkpoint's chat template makes of a conversation, BOS included.

        Args:
            messages: dicts with "role" and "content", as for transformers.
            add_generation_prompt: end with the opening of the model's turn.
            tools: JSON schemas of functions.
            enable_thinking: ask for a thought before the answer.

        Raises:
            UnsupportedError: the checkpoint has no chat template.
            ArgumentError: the messages are not plain data, or the template refuses them.
            FormatError: the template is broken, or needs more time or memory than it may have.
        """
        add_generation_prompt = arguments.flag("add_generation_prompt", add_generation_prompt)
        enable_thinking = arguments.flag("enable_thinking", enable_thinking)
        return self._render(check(messages), add_generation_prompt, plain("tools", tools), enable_thinking)

    def encode_messages(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[dict[str, Any]] | None = None,
        enable_thinking: bool = False,
        raw_answers: bool = True,
    ) -> list[int]:
        """Token ids of a conversation, with BOS once. Control tokens come from the template alone: what people write
        is ordinary text, even where it spells one. Arguments and errors are those of `apply_chat_template`.

        Args:
            raw_answers: the model's earlier answers are as it wrote them: where one spells a mark of a thought or of a
                call, it is that mark. Otherwise it is text there too.
        """
        add_generation_prompt = arguments.flag("add_generation_prompt", add_generation_prompt)
        enable_thinking = arguments.flag("enable_thinking", enable_thinking)
        arguments.flag("raw_answers", raw_answers)
        checked, described = check(messages), plain("tools", tools)
        control = [token for id in self._core.control_tokens if (token := self._core.token(id)) is not None]
        shield = Shield(control, checked, described, self.chat_template)
        rendered = self._render(
            shield.put_messages(checked, raw_answers), add_generation_prompt, shield.put(described), enable_thinking
        )
        ids: list[int] = []
        for piece, id in self._core.split(rendered.encode()):
            ids += self._encode(shield.lift(piece), parse_special=False) if id is None else [id]
        if self.bos_token_id is not None and ids[:1] != [self.bos_token_id]:
            ids.insert(0, self.bos_token_id)
        return self._within_rows(ids)

    def has_text(self, id: int) -> bool:
        """Whether `decode` with skip_special_tokens=True looks at `id`: not at control tokens, nor at ids it lacks."""
        return self._core.is_visible(_id(id))

    def control_token(self, text: str) -> int | None:
        """The id of the control token with this text, or None."""
        id = self._core.find(_utf8(text).decode())
        return None if id is None or self.has_text(id) else id

    def is_byte(self, id: int) -> bool:
        """Whether `id` stands for one byte of a character, not for text of its own."""
        return self._core.is_byte(_id(id))

    def spelled(self, id: int) -> bytes:
        """The bytes that `id` adds to a text: one for a byte token, none for a control token or an id without entry."""
        token = self._core.token(_id(id))
        if token is None or not self._core.is_visible(id):
            return b""
        return bytes.fromhex(token[3:5]) if self._core.is_byte(id) else token.replace(_SPACE_MARK, " ").encode()

    def name(self, id: int) -> str:
        """The text of one token by itself: that of a byte token or a control token as its entry is written."""
        token = self._core.token(_id(id)) or ""
        return token.replace(_SPACE_MARK, " ")

    def byte_length(self, ids: arguments.TokenIds) -> int:
        """UTF-8 bytes of the text of `ids`; special tokens have none, a byte token has one."""
        return self._core.visible_bytes(_ids(ids))

    def need_template(self) -> ChatTemplate:
        """The chat template. Raises UnsupportedError where there is none."""
        if self._template is None:
            raise UnsupportedError(
                f"{self._place}: this checkpoint has no chat template",
                remedy=f"{put_another(self._place)}, or use generate() with plain text.",
                file=str(self._place),
            )
        return self._template

    def _render(self, messages: Any, add_generation_prompt: bool, tools: Any, enable_thinking: bool) -> str:
        return self.need_template().render(
            {
                "messages": messages,
                "add_generation_prompt": add_generation_prompt,
                "tools": tools,
                "enable_thinking": enable_thinking,
                "bos_token": self.bos_token or "",
                "eos_token": self.eos_token or "",
                "pad_token": self.pad_token or "",
                "unk_token": self.unk_token or "",
            }
        )

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        ids: list[int] = self._core.encode(_utf8(text), parse_special).tolist()
        return ids

    def _within_rows(self, ids: list[int]) -> list[int]:
        """`ids`. Raises FormatError where the model has no row for one; entries that no text uses may be without."""
        if max(ids, default=0) >= self._rows:
            raise more_tokens_than_rows(self._place / "tokenizer.json", self.vocab_size, self._rows)
        return ids

    def _named(self, config: Mapping[str, Any], name: str) -> tuple[str | None, int | None]:
        """The special token `name`: as the configuration says, else as Gemma spells it."""
        token = config.get(f"{name}_token", f"<{name}>")
        token = token.get("content") if isinstance(token, dict) else token
        id = self._core.find(token) if isinstance(token, str) else None
        return (None, None) if id is None else (token, id)

    def __repr__(self) -> str:
        return f"Tokenizer({str(self._place)!r}, vocab_size={self.vocab_size})"


def more_tokens_than_rows(file: Path, tokens: int, rows: int) -> FormatError:
    """What is wrong with a tokenizer that does not belong to its checkpoint."""
    return FormatError(
        f"{file}: {tokens} tokens, but the embedding has {rows} rows",
        remedy="Put the tokenizer of this checkpoint beside it.",
        file=str(file),
        expected=f"at most {rows} tokens",
        found=f"{tokens} tokens",
    )


# A model may have more rows than the tokenizer has entries; such ids have no text.
_IDS = 2**31


def _id(id: object) -> int:
    return arguments.integer("the token id", id, least=0, most=_IDS - 1)


def _ids(ids: object) -> NDArray[np.int32]:
    return arguments.token_ids(ids, _IDS, least=0, name="the ids")


def _utf8(text: object) -> bytes:
    string = arguments.string("text", text)
    try:
        return string.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(string[error.start]):04X}"
        raise ArgumentError(
            f"text holds {found}, half of a character, at position {error.start}",
            remedy="Decode the text with errors='replace'.",
            expected="text that UTF-8 can write",
            found=found,
        ) from None
