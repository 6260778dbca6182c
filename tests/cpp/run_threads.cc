// Drives one model from many threads at once, for ThreadSanitizer:
//
//   run_threads FIXTURES [SECONDS]
//
// Each thread has sequences of its own, alone, in batches, with drafts, forked and restored, stopped in the middle and
// thrown away at any time; all share the model, its threads and its tokenizer. What each computes must be the bits of
// the same work done alone. Prints a line for each checkpoint; exit code 1 where bits differ.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/batch.h"
#include "engine/decoder.h"
#include "engine/drafter.h"
#include "engine/load.h"
#include "engine/sampler.h"
#include "text/tokenizer_json.h"

namespace gemmule {
namespace {

constexpr int kThreads = 3;       // of a model
constexpr int kCallers = 6;       // threads that use it at once
constexpr int kTokens = 12;       // generated at a time
using Bits = std::vector<float>;  // all that a piece of work computed, one behind the other

struct Loaded {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::shared_ptr<const DrafterCheckpoint> drafter;  // null: none

  std::shared_ptr<const Model> model() const { return ModelOf(checkpoint); }
  std::size_t vocab_size() const { return checkpoint->model.config.vocab_size; }
};

std::vector<std::int32_t> Prompt(std::size_t n, std::size_t seed) {
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(3 + (i + seed) * 37 % 600);
  return ids;
}

void Append(Bits& bits, std::span<const float> more) { bits.insert(bits.end(), more.begin(), more.end()); }

// One sequence: a prompt, then tokens, sampled, with drafts where there is a drafter.
Bits Alone(const Loaded& loaded, std::size_t seed) {
  Bits bits, logits(loaded.vocab_size());
  Decoder decoder(loaded.model());
  std::unique_ptr<Drafter> drafter;
  if (loaded.drafter) drafter = std::make_unique<Drafter>(loaded.model(), ModelOf(loaded.drafter));
  Sampler sampler({.top_k = 20, .seed = seed});
  decoder.Prefill(Prompt(70 + seed, seed), logits, {});
  for (int i = 0; i < kTokens; ++i) {
    const std::int32_t id = sampler.Sample(logits, {});
    std::vector<std::int32_t> drafts(drafter ? 3 : 0);
    if (drafter) drafter->Draft(decoder, id, drafts, {});
    bits.insert(bits.end(), drafts.begin(), drafts.end());
    decoder.Prefill({&id, 1}, logits, {});
    Append(bits, logits);
  }
  return bits;
}

// Several sequences that step together, then one of them forked and restored.
Bits Together(const Loaded& loaded, std::size_t seed) {
  constexpr std::size_t kSequences = 3;
  Batch batch(loaded.model());
  Bits bits, rows(kSequences * loaded.vocab_size());
  std::vector<std::shared_ptr<Decoder>> decoders;
  std::vector<Decoder*> pointers;
  std::vector<Sampler> samplers(kSequences, Sampler({.seed = seed}));
  std::vector<Sampler*> sampling;
  std::vector<std::span<const float>> logits;
  for (std::size_t i = 0; i < kSequences; ++i) {
    pointers.push_back(decoders.emplace_back(std::make_shared<Decoder>(loaded.model())).get());
    sampling.push_back(&samplers[i]);
    logits.emplace_back(&rows[i * loaded.vocab_size()], loaded.vocab_size());
    batch.Prefill(*decoders[i], Prompt(9 + i, seed + i), {&rows[i * loaded.vocab_size()], loaded.vocab_size()}, {});
  }
  const std::vector<std::span<const std::int32_t>> histories(kSequences);
  std::vector<std::int32_t> ids(kSequences);
  for (int i = 0; i < kTokens; ++i) {
    batch.Sample(sampling, logits, histories, ids, {});
    batch.Step(pointers, ids, rows, {});
    Append(bits, rows);
  }
  const auto fork = decoders[0]->Fork();
  std::vector<std::vector<std::byte>> states;
  for (std::size_t i = 0; const auto& extent : fork->Extents(fork->length())) {
    fork->Export(i++, states.emplace_back(extent.bytes));
  }
  const std::vector<std::span<const std::byte>> views(states.begin(), states.end());
  const auto twin = Decoder::FromStates(loaded.model(), fork->length(), views);
  decoders.clear();
  const std::span<float> row = std::span(rows).first(loaded.vocab_size());
  for (Decoder* decoder : {fork.get(), twin.get()}) {
    decoder->Prefill(Prompt(3, seed), row, {});
    Append(bits, row);
  }
  return bits;
}

// A prompt that another thread stops somewhere, and that then goes on from what is complete.
Bits Interrupted(const Loaded& loaded, std::size_t seed) {
  Bits logits(loaded.vocab_size());
  Decoder decoder(loaded.model());
  const auto prompt = Prompt(130, seed);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::microseconds(300 * seed));
    stop = true;
  });
  bool done = true;
  try {
    decoder.Prefill(prompt, logits, [&] { return stop.load(); });
  } catch (const Stopped&) {
    done = false;
  }
  other.join();
  if (!done) decoder.Prefill(std::span(prompt).subspan(decoder.length()), logits, {});
  return logits;
}

// A model of its own, thrown away while its last user still computes, in another thread.
Bits Dropped(const Loaded& loaded, const std::string& path) {
  auto own = LoadCheckpoint(path, {.threads = kThreads});
  Bits logits(loaded.vocab_size());
  auto decoder = std::make_unique<Decoder>(ModelOf(own));
  std::thread user([&logits, decoder = std::move(decoder)]() mutable {
    decoder->Prefill(Prompt(40, 1), logits, {});
    decoder.reset();
  });
  own.reset();
  user.join();
  return logits;
}

// All work, by the number of the caller that does it.
Bits Work(const Loaded& loaded, const std::string& path, const Tokenizer& tokenizer, std::size_t caller) {
  const auto ids = *tokenizer.Encode("The fox " + std::to_string(caller), ControlTokens::kParse, {});
  Bits bits(ids.begin(), ids.end());
  Append(bits, Alone(loaded, caller));
  Append(bits, Together(loaded, caller));
  Append(bits, Interrupted(loaded, caller));
  Append(bits, Dropped(loaded, path));
  return bits;
}

// Rounds in which all callers work at once, for so many seconds, one round at least.
void Run(const std::string& path, const std::string& drafter, const Tokenizer& tokenizer, double seconds) {
  Loaded loaded{LoadCheckpoint(path, {.threads = kThreads}), nullptr};
  if (!drafter.empty()) loaded.drafter = LoadDrafter(drafter, loaded.checkpoint, {});
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Bits> alone;  // made after the first round: what is made at its first use is first used by all at once
  int rounds = 0;
  do {
    std::vector<Bits> got(kCallers);
    std::vector<std::thread> callers;
    for (std::size_t i = 0; i < kCallers; ++i) {
      callers.emplace_back([&, i] { got[i] = Work(loaded, path, tokenizer, i); });
    }
    for (std::thread& caller : callers) caller.join();
    while (alone.size() < kCallers) alone.push_back(Work(loaded, path, tokenizer, alone.size()));
    if (got != alone) throw std::runtime_error(path + ": other bits than alone");
    ++rounds;
  } while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds);
  std::printf("%s: %d callers, %d rounds, the bits of one\n", path.c_str(), kCallers, rounds);
}

}  // namespace
}  // namespace gemmule

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::string fixtures = std::string(argv[1]) + "/";
  try {
    const double seconds = argc > 2 ? std::stod(argv[2]) : 0.0;
    const gemmule::Tokenizer tokenizer = gemmule::ReadTokenizerJson(fixtures + "mobile/tokenizer.json");
    gemmule::Run(fixtures + "mobile", "", tokenizer, seconds);
    gemmule::Run(fixtures + "gguf_e2b/model-Q4_0.gguf", "", tokenizer, seconds);
    gemmule::Run(fixtures + "ct_w4a16", "", tokenizer, seconds);
    gemmule::Run(fixtures + "moe", "", tokenizer, seconds);
    gemmule::Run(fixtures + "e2b", fixtures + "mtp_ordered", tokenizer, seconds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_threads: %s\n", error.what());
    return 1;
  }
}
