// Loads a checkpoint, a folder or a GGUF file, and prints the logits of the last of some tokens, without Python:
//
//   run_model CHECKPOINT [--threads N] [--kv auto|float32|bf16|static] [--activations auto|float32|int8] ID [ID ...]
//
// One logit a line, in hexadecimal so that equal lines are equal bits. Errors go to stderr; exit code 1.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "engine/decoder.h"
#include "engine/load.h"

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  std::string path;
  gemmule::LoadOptions options;
  std::vector<std::int32_t> ids;
  try {
    for (std::size_t i = 0; i < words.size(); ++i) {
      const bool has_value = i + 1 < words.size();
      if (words[i] == "--threads" && has_value) {
        options.threads = std::stoi(words[++i]);
      } else if (words[i] == "--kv" && has_value) {
        options.kv = words[++i];
      } else if (words[i] == "--activations" && has_value) {
        options.activations = words[++i];
      } else if (path.empty()) {
        path = words[i];
      } else {
        ids.push_back(std::stoi(words[i]));
      }
    }
    gemmule::SetTargetFromEnvironment();
    const auto checkpoint = gemmule::LoadCheckpoint(path, options);
    gemmule::Decoder decoder(gemmule::ModelOf(checkpoint));
    std::vector<float> logits(checkpoint->model.config.vocab_size);
    decoder.Prefill(ids, logits, {});
    for (const float logit : logits) std::printf("%a\n", static_cast<double>(logit));
  } catch (const gemmule::Error& error) {
    std::fprintf(stderr, "run_model: %s\n%s\n", error.what(), error.remedy().c_str());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_model: %s\n", error.what());
    return 1;
  }
  return 0;
}
