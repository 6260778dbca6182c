// The tokenizer that a GGUF file describes in its metadata.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace gemmule {

// The arrays `tokenizer.ggml.*`. Owns nothing.
struct GgufTokenizer {
  std::string file;                           // the name for messages
  std::string_view model;                     // "gemma4": merges by rank; "llama": merges by score
  std::span<const std::string_view> tokens;   // (V,)
  std::span<const float> scores;              // (V,) for "llama"; not looked at for "gemma4"
  std::span<const std::int64_t> token_types;  // (V,)
  std::span<const std::string_view> merges;   // "left right", for "gemma4"
  bool add_space_prefix = false;              // Gemma has none; llama.cpp takes true where a "llama" file is silent
};

// Throws FormatError where the arrays contradict each other, UnsupportedError for another model or a space prefix.
// A merge whose result is not in the vocabulary is left out.
//
// Some kinds are those of Gemma's tokenizer.json, whatever the file says: the marks of thoughts, calls, results and
// ends are control tokens (files call some of them user-defined, so that programs show them, or ordinary). `</s>` is an
// HTML tag, ordinary text; in "llama" files that do not have Gemma 4's marks it is a control token, as
// ggml-org/llama.cpp takes it.
Tokenizer MakeTokenizer(const GgufTokenizer& gguf);

// The tokens that end an answer, of those that the vocabulary has: `<eos>`, the end of a turn, the opening of a tool's
// response.
std::vector<TokenId> EndTokens(const Vocabulary& vocabulary);

}  // namespace gemmule
