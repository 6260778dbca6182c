#include "text/tokenizer_gguf.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "formats/json.h"
#include "text/merge_list.h"

namespace gemmule {
namespace {

// Control tokens of Gemma's that files give other types. The converter of ggml-org/llama.cpp writes those of thoughts,
// calls and results as user-defined, so that programs show them.
constexpr std::string_view kControl[] = {
    "<eos>",        "<turn|>",          "<|channel>",       "<channel|>", "<|tool_call>",
    "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>",     "<end_of_turn>",
};
constexpr std::string_view kEnds[] = {"<eos>", "<turn|>", "<|tool_response>", "<end_of_turn>"};

TokenKind KindOf(const GgufTokenizer& gguf, std::size_t id, TokenKind by_text) {
  const std::string_view text = gguf.tokens[id];
  if (std::find(std::begin(kControl), std::end(kControl), text) != std::end(kControl)) return TokenKind::kControl;
  const std::int64_t type = gguf.token_types[id];
  switch (type) {
    case 1:  // normal
    case 5:  // unused
    case 6:  // byte
      return by_text;
    case 2:  // unknown
    case 3: return TokenKind::kControl;
    case 4: return TokenKind::kUserDefined;
    default:
      throw FormatError("an unknown type of token", {.file = gguf.file,
                                                     .tensor = "tokenizer.ggml.token_type[" + std::to_string(id) + "]",
                                                     .expected = "1 to 6",
                                                     .found = std::to_string(type)});
  }
}

void WantOneForEach(const GgufTokenizer& gguf, const char* key, std::size_t size) {
  if (size == gguf.tokens.size()) return;
  throw FormatError("an array does not fit the tokens", {.file = gguf.file,
                                                         .tensor = key,
                                                         .expected = std::to_string(gguf.tokens.size()) + " elements",
                                                         .found = std::to_string(size)});
}

Vocabulary Tokens(const GgufTokenizer& gguf) {
  WantOneForEach(gguf, "tokenizer.ggml.token_type", gguf.token_types.size());
  Vocabulary vocabulary(gguf.file);
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i) {
    vocabulary.Add(static_cast<std::int64_t>(i), gguf.tokens[i]);
    const auto id = static_cast<TokenId>(i);
    vocabulary.SetKind(id, KindOf(gguf, i, vocabulary.Kind(id)));
  }
  vocabulary.Index();
  if (const TokenId tag = vocabulary.Find("</s>"); tag != kNoToken) {
    const bool is_text = gguf.model == "gemma4" || vocabulary.Find("<|tool_response>") != kNoToken;
    vocabulary.SetKind(tag, is_text ? TokenKind::kNormal : TokenKind::kControl);
  }
  vocabulary.Finish();
  return vocabulary;
}

RankedMerges Ranked(const GgufTokenizer& gguf, const Vocabulary& vocabulary) {
  MergeList merges(vocabulary);
  for (std::size_t i = 0; i < gguf.merges.size(); ++i) {
    const std::string_view text = gguf.merges[i];
    const std::size_t space = text.empty() ? std::string_view::npos : text.find(' ', 1);  // a token may begin with one
    if (space == std::string_view::npos) {
      throw FormatError("not a merge", {.file = gguf.file,
                                        .tensor = "tokenizer.ggml.merges[" + std::to_string(i) + "]",
                                        .expected = "two tokens with a space between",
                                        .found = Quoted(text)});
    }
    merges.Add(text.substr(0, space), text.substr(space + 1));
  }
  return merges.Finish();
}

ScoredMerges Scored(const GgufTokenizer& gguf) {
  WantOneForEach(gguf, "tokenizer.ggml.scores", gguf.scores.size());
  const auto nan = std::find_if(gguf.scores.begin(), gguf.scores.end(), [](float score) { return std::isnan(score); });
  if (nan != gguf.scores.end()) {
    throw FormatError("a token's score is not a number",
                      {.file = gguf.file,
                       .tensor = "tokenizer.ggml.scores[" + std::to_string(nan - gguf.scores.begin()) + "]",
                       .expected = "a number",
                       .found = "NaN"});
  }
  return ScoredMerges({gguf.scores.begin(), gguf.scores.end()});
}

}  // namespace

Tokenizer MakeTokenizer(const GgufTokenizer& gguf) {
  if (gguf.model != "gemma4" && gguf.model != "llama") {
    throw UnsupportedError("a tokenizer that is not Gemma's", "Use a GGUF file of a Gemma checkpoint.",
                           {.file = gguf.file,
                            .tensor = "tokenizer.ggml.model",
                            .expected = "\"gemma4\" or \"llama\"",
                            .found = Quoted(gguf.model)});
  }
  if (gguf.add_space_prefix) {
    throw UnsupportedError(
        "a tokenizer that puts a space before every text", "Use a GGUF file of a Gemma checkpoint.",
        {.file = gguf.file, .tensor = "tokenizer.ggml.add_space_prefix", .expected = "false", .found = "true"});
  }
  Vocabulary vocabulary = Tokens(gguf);
  Tokenizer::Rule rule = gguf.model == "llama" ? Tokenizer::Rule(Scored(gguf)) : Ranked(gguf, vocabulary);
  return Tokenizer(std::move(vocabulary), std::move(rule));
}

std::vector<TokenId> EndTokens(const Vocabulary& vocabulary) {
  std::vector<TokenId> ids;
  for (const std::string_view text : kEnds) {
    if (const TokenId id = vocabulary.Find(text); id != kNoToken) ids.push_back(id);
  }
  return ids;
}

}  // namespace gemmule
