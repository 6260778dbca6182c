#include "engine/gguf_text.h"

#include <vector>

#include "text/tokenizer_gguf.h"

namespace gemmule {
namespace {

constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kMerges[] = "tokenizer.ggml.merges";

}  // namespace

std::optional<Tokenizer> ReadGgufTokenizer(const GgufMetadata& metadata) {
  const GgufValue* tokens = metadata.Find(kTokens);
  if (tokens == nullptr) return std::nullopt;
  const std::string_view model = metadata.At("tokenizer.ggml.model").String();
  const bool by_score = model == "llama";
  const std::vector<std::string_view> texts = tokens->Strings();

  const std::vector<std::int64_t> types = metadata.At("tokenizer.ggml.token_type").Ints();
  std::vector<float> scores;
  if (by_score) {
    const std::vector<double> numbers = metadata.At("tokenizer.ggml.scores").Numbers();
    scores.assign(numbers.begin(), numbers.end());
  }
  std::vector<std::string_view> merges;
  if (!by_score) merges = metadata.At(kMerges).Strings();
  // A "llama" file that says nothing means a space in front, as llama.cpp takes it.
  const GgufValue* space = metadata.Find("tokenizer.ggml.add_space_prefix");
  return MakeTokenizer({.file = tokens->file(),
                        .model = model,
                        .tokens = texts,
                        .scores = scores,
                        .token_types = types,
                        .merges = merges,
                        .add_space_prefix = space != nullptr ? space->Bool() : by_score});
}

VocabularySize SizeOfVocabulary(const GgufMetadata& metadata) {
  const GgufValue* tokens = metadata.Find(kTokens);
  if (tokens == nullptr) return {};
  VocabularySize size{.tokens = tokens->size()};
  for (const std::string_view text : tokens->Strings()) size.text_bytes += text.size();
  if (const GgufValue* merges = metadata.Find(kMerges)) size.merges = merges->size();
  return size;
}

}  // namespace gemmule
