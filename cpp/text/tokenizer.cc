#include "text/tokenizer.h"

#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "text/merge_word.h"

namespace gemmule {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 29;  // three times that, with every space a mark, is under 2^31
constexpr std::size_t kBytesBetweenStops = std::size_t{1} << 14;  // milliseconds
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";         // U+FFFD

std::vector<TokenId> Added(const Vocabulary& vocabulary) {
  std::vector<TokenId> ids = vocabulary.OfKind(TokenKind::kControl);
  const std::vector<TokenId> others = vocabulary.OfKind(TokenKind::kUserDefined);
  ids.insert(ids.end(), others.begin(), others.end());
  return ids;
}

// Replaces every `from` in `text`.
std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  while (true) {
    const std::size_t at = text.find(from);
    out.append(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    out.append(to);
    text.remove_prefix(at + from.size());
  }
}

// Joins the texts of tokens.
class TextOfTokens {
 public:
  explicit TextOfTokens(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}

  void Add(TokenId id) {
    const std::string_view text = vocabulary_.Text(id);
    if (const int byte = Vocabulary::ByteNamed(text); byte >= 0) {
      run_.push_back(static_cast<char>(byte));
      return;
    }
    EndRun();
    out_ += Replaced(text, kSpaceMark, " ");
  }

  std::string Finish() {
    EndRun();
    return std::move(out_);
  }

 private:
  void EndRun() {
    if (Utf8Prefix(run_) == run_.size()) {
      out_ += run_;
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i) out_ += kReplacement;
    }
    run_.clear();
  }

  const Vocabulary& vocabulary_;
  std::string run_;  // of byte tokens
  std::string out_;
};

}  // namespace

Tokenizer::Tokenizer(Vocabulary vocabulary, Rule rule)
    : vocabulary_(std::move(vocabulary)), rule_(std::move(rule)), added_(vocabulary_, Added(vocabulary_)) {
  for (std::size_t i = 0; i < vocabulary_.size(); ++i) breaks_.Add(vocabulary_.Text(static_cast<TokenId>(i)));
}

std::optional<std::vector<TokenId>> Tokenizer::Encode(std::string_view text, ControlTokens control,
                                                      const StopCheck& stop) const {
  if (Utf8Prefix(text) != text.size()) throw ArgumentError("text is not UTF-8");
  if (text.size() >= kMaxTextBytes) throw ArgumentError("text is too long for one call", "Encode it in parts.");
  std::vector<TokenId> ids;
  const auto encode = [&]<class R>(const R& rule) {
    WordMerger<R> merger(vocabulary_, rule);
    std::size_t since_stop = 0;  // bytes
    bool stopped = false;
    for (const Piece& piece : Split(text, control)) {
      if (piece.id != kNoToken) {
        ids.push_back(piece.id);
        continue;
      }
      breaks_.Cut(Replaced(piece.text, " ", kSpaceMark), [&](std::string_view word) {
        since_stop += word.size();
        if (since_stop >= kBytesBetweenStops) {
          since_stop = 0;
          stopped = stopped || stop();
        }
        if (!stopped) merger.Encode(word, ids);
      });
      if (stopped) return false;
    }
    return true;
  };
  if (!std::visit(encode, rule_)) return std::nullopt;
  return ids;
}

std::vector<Tokenizer::Piece> Tokenizer::Split(std::string_view text, ControlTokens control) const {
  std::vector<Piece> pieces;
  std::size_t begin = 0, at = 0;  // of the ordinary text, and of the search
  while (const auto match = added_.Find(text, at)) {
    at = match->end;
    if (control == ControlTokens::kAreText && vocabulary_.Kind(match->id) == TokenKind::kControl) continue;
    if (match->begin != begin) pieces.push_back({text.substr(begin, match->begin - begin), kNoToken});
    pieces.push_back({text.substr(match->begin, match->end - match->begin), match->id});
    begin = match->end;
  }
  if (begin != text.size()) pieces.push_back({text.substr(begin), kNoToken});
  return pieces;
}

std::string Tokenizer::Decode(std::span<const TokenId> ids) const {
  TextOfTokens text(vocabulary_);
  for (const TokenId id : ids) {
    if (vocabulary_.Has(id)) text.Add(id);
  }
  return text.Finish();
}

std::string Tokenizer::DecodeVisible(std::span<const TokenId> ids) const {
  TextOfTokens text(vocabulary_);
  for (const TokenId id : ids) {
    if (vocabulary_.IsVisible(id)) text.Add(id);
  }
  return text.Finish();
}

std::size_t Tokenizer::VisibleBytes(std::span<const TokenId> ids) const {
  std::size_t bytes = 0;
  for (const TokenId id : ids) {
    if (!vocabulary_.IsVisible(id)) continue;
    const std::string_view text = vocabulary_.Text(id);
    bytes += Vocabulary::ByteNamed(text) >= 0 ? 1 : Replaced(text, kSpaceMark, " ").size();
  }
  return bytes;
}

}  // namespace gemmule
