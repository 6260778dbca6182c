#include "base/error.h"
#include "bindings/bind.h"
#include "text/tokenizer_gguf.h"
#include "text/tokenizer_json.h"

namespace gemmule {
namespace {

Tokens Encode(const Tokenizer& tokenizer, const py::bytes& text, bool parse_special) {
  const auto control = parse_special ? ControlTokens::kParse : ControlTokens::kAreText;
  const std::string_view view(text);
  std::vector<TokenId> ids;
  WithoutGil([&](const Parallel::StopCheck& stop) {
    auto encoded = tokenizer.Encode(view, control, stop);
    if (!encoded) throw Stopped();
    ids = *std::move(encoded);
  });
  return ArrayOf(ids);
}

py::str Decode(const Tokenizer& tokenizer, const Tokens& tokens, bool skip_special_tokens) {
  const auto ids = Ids(tokens);
  std::string text;
  {
    const GilReleased nogil;
    text = skip_special_tokens ? tokenizer.DecodeVisible(ids) : tokenizer.Decode(ids);
  }
  return text;
}

py::list Split(const Tokenizer& tokenizer, const py::bytes& text) {
  py::list pieces;
  for (const Tokenizer::Piece& piece : tokenizer.Split(std::string_view(text), ControlTokens::kParse)) {
    pieces.append(py::make_tuple(py::str(piece.text.data(), piece.text.size()),
                                 piece.id == kNoToken ? py::object(py::none()) : py::int_(piece.id)));
  }
  return pieces;
}

std::vector<std::string_view> Views(const std::vector<py::bytes>& texts) { return {texts.begin(), texts.end()}; }

Tokenizer FromArrays(const std::string& model, const std::vector<py::bytes>& tokens, const std::vector<float>& scores,
                     const std::vector<std::int64_t>& token_types, const std::vector<py::bytes>& merges,
                     bool add_space_prefix) {
  const std::vector<std::string_view> texts = Views(tokens), pairs = Views(merges);
  return MakeTokenizer({"metadata", model, texts, scores, token_types, pairs, add_space_prefix});
}

}  // namespace

void BindTokenizer(py::module_& module, py::module_& testing) {
  py::class_<Tokenizer>(module, "Tokenizer")
      .def_static(
          "open", [](const Path& path) { return ReadTokenizerJson(path.string()); }, py::arg("path"),
          py::call_guard<GilReleased>())
      .def_property_readonly("size", [](const Tokenizer& tokenizer) { return tokenizer.vocabulary().size(); })
      .def_property_readonly(
          "control_tokens",
          [](const Tokenizer& tokenizer) { return tokenizer.vocabulary().OfKind(TokenKind::kControl); })
      .def_property_readonly("end_tokens", [](const Tokenizer& tokenizer) { return EndTokens(tokenizer.vocabulary()); })
      .def("encode", &Encode, py::arg("text"), py::arg("parse_special"))
      .def("decode", &Decode, py::arg("ids").noconvert(), py::arg("skip_special_tokens"))
      .def("split", &Split, py::arg("text"))
      .def(
          "find",
          [](const Tokenizer& tokenizer, const std::string& text) -> std::optional<TokenId> {
            const TokenId id = tokenizer.vocabulary().Find(text);
            return id == kNoToken ? std::nullopt : std::optional(id);
          },
          py::arg("text"))
      .def(
          "token",
          [](const Tokenizer& tokenizer, std::int64_t id) -> std::optional<std::string_view> {
            if (!tokenizer.vocabulary().Has(id)) return std::nullopt;
            return tokenizer.vocabulary().Text(static_cast<TokenId>(id));
          },
          py::arg("id"))
      .def(
          "is_visible",
          [](const Tokenizer& tokenizer, std::int64_t id) { return tokenizer.vocabulary().IsVisible(id); },
          py::arg("id"))
      .def(
          "is_byte", [](const Tokenizer& tokenizer, std::int64_t id) { return tokenizer.vocabulary().IsByte(id); },
          py::arg("id"))
      .def(
          "visible_bytes",
          [](const Tokenizer& tokenizer, const Tokens& ids) { return tokenizer.VisibleBytes(Ids(ids)); },
          py::arg("ids").noconvert());
  testing.def(
      "text_hash", [](std::string_view text, std::uint64_t seed) { return Hash(text, seed); }, py::arg("text"),
      py::arg("seed"));
  testing.def("tokenizer", &FromArrays, py::kw_only(), py::arg("model"), py::arg("tokens"), py::arg("scores"),
              py::arg("token_types"), py::arg("merges"), py::arg("add_space_prefix") = false);
}

}  // namespace gemmule
