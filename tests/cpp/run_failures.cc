// Refuses memory to every step of loading and running a checkpoint, request by request, and threads to loading:
//
//   run_failures FIXTURES [STRIDE]
//
// Each step is done over and over: in turn k its k-th request is refused, alone or with all behind it, and the step is
// then done again with memory. With a stride only every so many requests of loading have a turn, which are thousands,
// and more of the others. A refused step must end in an exception, and leak nothing; what comes after it must be the
// bits of a run without failures. Prints a line for each checkpoint; exit code 1 where something else happened.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/batch.h"
#include "engine/calibration.h"
#include "engine/decoder.h"
#include "engine/drafter.h"
#include "engine/fingerprint.h"
#include "engine/gguf_text.h"
#include "engine/load.h"
#include "engine/row_encoders.h"
#include "engine/sampler.h"
#include "engine/source.h"
#include "refused_memory.h"
#include "text/tokenizer_json.h"

namespace gemmule {
namespace {

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::size_t OpenFiles() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

// What happened to all steps of all turns.
struct Tally {
  std::uint64_t steps = 0;    // refused some memory
  std::uint64_t refused = 0;  // requests
  std::uint64_t threw = 0;    // steps: the others did without the memory
};

// Which requests are refused to every step of a turn.
struct Turn {
  std::uint64_t first;
  bool all_behind;
};

const char* step_name = "";  // for the message of a program that ends
Turn turn_now{};

// The steps of one turn.
class Steps {
 public:
  Steps(std::optional<Turn> turn, std::vector<std::vector<std::byte>>& results, Tally& tally)
      : turn_(turn), results_(results), tally_(tally) {}

  // Does a step, with memory refused at first where this turn refuses any.
  template <class Step>
  void Do(const char* name, const Step& step) {
    step_name = name;
    if (!turn_ || !RefusedDid(step)) step();
  }

  // Must be what it is without failures: the results of turn 0 come first.
  template <class T>
  void Check(std::span<const T> result) {
    const auto bytes = std::as_bytes(result);
    if (!turn_) {
      results_.emplace_back(bytes.begin(), bytes.end());
    } else if (!std::ranges::equal(bytes, results_.at(checked_++))) {
      throw Wrong("other results than without failures");
    }
  }
  template <class T>
  void Check(const std::vector<T>& result) {
    Check(std::span<const T>(result));
  }

  // Whether a step had a request to refuse.
  bool refused() const { return refused_; }

 private:
  // Whether the step came to its end all the same.
  template <class Step>
  bool RefusedDid(const Step& step) {
    const std::size_t files = OpenFiles();
    bool did = true;
    std::optional<std::string> other;
    memory_requests.Refuse(turn_->first, turn_->all_behind);
    try {
      step();
    } catch (const std::bad_alloc&) {
      did = false;
    } catch (const ResourceError&) {
      did = false;
    } catch (const std::exception& error) {
      memory_requests.Grant();
      other = error.what();
    }
    const std::uint64_t refused = memory_requests.Grant();
    if (other) throw Wrong("it ended in another exception: " + *other);
    if (refused == 0 && !did) throw Wrong("it found no memory, and was refused none");
    refused_ = refused_ || refused != 0;
    tally_.steps += refused != 0;
    tally_.refused += refused;
    tally_.threw += !did;
    if (!did && OpenFiles() != files) throw Wrong("it left a file open");
    return did;
  }

  std::optional<Turn> turn_;  // none: nothing is refused
  std::vector<std::vector<std::byte>>& results_;
  Tally& tally_;
  std::size_t checked_ = 0;
  bool refused_ = false;
};

// Turns of `scene(steps)` until no step has as many requests; only every so many have one.
template <class Scene>
void Play(std::uint64_t stride, Tally& tally, const Scene& scene) {
  std::vector<std::vector<std::byte>> results;
  {
    Steps steps(std::nullopt, results, tally);
    scene(steps);
  }
  for (const bool all_behind : {false, true}) {
    for (std::uint64_t first = 0;; first += stride) {
      turn_now = {first, all_behind};
      const std::int64_t live = live_allocations;
      Steps steps(turn_now, results, tally);
      scene(steps);
      if (live_allocations != live) {
        throw Wrong(std::to_string(live_allocations - live) + " allocations are never freed");
      }
      if (!steps.refused()) break;
    }
  }
}

// A file in memory, to convert into.
class Output {
 public:
  Output() : descriptor_(memfd_create("output", MFD_CLOEXEC)) {}
  ~Output() { close(descriptor_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  EncodeTarget target() const { return {descriptor_, 0}; }
  std::vector<std::byte> Read(std::size_t size) const {
    std::vector<std::byte> bytes(size);
    if (pread(descriptor_, bytes.data(), size, 0) != static_cast<ssize_t>(size)) throw Wrong("a short output");
    return bytes;
  }

 private:
  int descriptor_;
};

constexpr std::size_t kTokens = 32;  // generated ones
constexpr int kThreads = 3;

std::vector<std::int32_t> Prompt(std::size_t n) {
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(3 + i * 37 % 600);
  return ids;
}

// Loading, and that what was loaded is whole.
void LoadAndAsk(Steps& steps, const std::string& path, const std::string& drafter) {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::shared_ptr<const DrafterCheckpoint> draft_model;
  steps.Do("load", [&] { checkpoint = LoadCheckpoint(path, {.threads = kThreads}); });
  if (!drafter.empty()) {
    steps.Do("load a drafter", [&] { draft_model = LoadDrafter(drafter, checkpoint, {}); });
  }
  steps.Do("fingerprint", [&] { Fingerprint(*checkpoint); });
  std::vector<float> logits(checkpoint->model.config.vocab_size);
  Decoder(ModelOf(checkpoint)).Prefill(Prompt(5), logits, {});
  steps.Check(logits);
}

// A sequence, and all that can be done with it, on a model that has seen all failures before.
class Sequence {
 public:
  Sequence(Steps& steps, const std::shared_ptr<const Checkpoint>& checkpoint,
           const std::shared_ptr<const DrafterCheckpoint>& drafter)
      : steps_(steps),
        model_(ModelOf(checkpoint)),
        drafter_(drafter),
        vocab_size_(model_->config.vocab_size),
        logits_(vocab_size_) {}

  void Play() {
    steps_.Do("make a decoder", [&] { decoder_ = std::make_shared<Decoder>(model_); });
    steps_.Do("make a sampler", [&] { sampler_.emplace(SamplerOptions{.repetition_penalty = 1.1, .seed = 3}); });
    const auto prompt = Prompt(70);  // two chunks: what is complete stays
    const auto left = [&] { return std::span(prompt).subspan(decoder_->length()); };
    steps_.Do("read a prompt", [&] { decoder_->Prefill(left(), logits_, {}); });
    steps_.Check(logits_);
    if (drafter_) steps_.Do("make a drafter", [&] { guess_.emplace(model_, ModelOf(drafter_)); });
    for (std::size_t i = 0; i < kTokens; ++i) Generate();
    Several();
    Restored();
    Together();
  }

 private:
  void Generate() {
    std::int32_t id = 0;
    steps_.Do("sample", [&] { id = sampler_->Sample(logits_, Prompt(9)); });
    if (guess_) {
      std::vector<std::int32_t> drafts(3);
      steps_.Do("draft", [&] { guess_->Draft(*decoder_, id, drafts, {}); });
      steps_.Check(drafts);
    }
    const std::size_t length = decoder_->length();
    steps_.Do("decode", [&] {
      if (decoder_->length() != length) throw Wrong("a step that failed has advanced");
      decoder_->Prefill({&id, 1}, logits_, {});
    });
    steps_.Check(logits_);
  }

  // Logits of several tokens, log-probabilities, and back again.
  void Several() {
    const auto ids = Prompt(20);
    std::vector<float> rows(ids.size() * vocab_size_);
    const std::size_t length = decoder_->length();
    steps_.Do("read without logits", [&] { decoder_->Read(ids, {}); });
    if (!decoder_->Rewind(length)) throw Wrong("the window is gone");
    steps_.Do("logits", [&] { decoder_->Logits(ids, rows, {}); });
    steps_.Check(rows);
    if (!decoder_->Rewind(length)) throw Wrong("the window is gone");
    std::vector<double> scores(ids.size() - 1);
    steps_.Do("score", [&] { decoder_->Score(ids, 1, scores, {}); });
    steps_.Check(scores);
    if (!decoder_->Rewind(length)) throw Wrong("the window is gone");
  }

  // A fork, and the twin that a saved cache makes.
  void Restored() {
    steps_.Do("fork", [&] { fork_ = decoder_->Fork(); });
    std::vector<std::vector<std::byte>> states;
    steps_.Do("export", [&] {
      states.clear();
      for (std::size_t i = 0; const auto& extent : decoder_->Extents(decoder_->length())) {
        decoder_->Export(i++, states.emplace_back(extent.bytes));
      }
    });
    steps_.Do("import", [&] {
      const std::vector<std::span<const std::byte>> views(states.begin(), states.end());
      twin_ = Decoder::FromStates(model_, decoder_->length(), views);
    });
  }

  // Several sequences in a step: three that have seen the same, and a new one.
  void Together() {
    std::optional<Batch> batch;
    auto other = std::make_shared<Decoder>(model_);
    steps_.Do("make a batch", [&] { batch.emplace(model_); });
    steps_.Do("read a prompt in a batch", [&] { batch->Prefill(*other, Prompt(11), logits_, {}); });
    steps_.Check(logits_);
    const std::vector<Decoder*> decoders = {other.get(), decoder_.get(), fork_.get(), twin_.get()};
    std::vector<Sampler> samplers(decoders.size(), *sampler_);
    std::vector<Sampler*> pointers;
    for (Sampler& sampler : samplers) pointers.push_back(&sampler);
    std::vector<float> rows(decoders.size() * vocab_size_);
    std::vector<std::int32_t> ids(decoders.size(), 7);
    for (int i = 0; i < 4; ++i) {
      steps_.Do("step of several", [&] {
        if (other->hidden().empty()) throw Wrong("a step that failed has taken what a draft begins with");
        batch->Step(decoders, ids, rows, {});
      });
      steps_.Check(rows);
      std::vector<std::span<const float>> logits;
      for (std::size_t row = 0; row < ids.size(); ++row) logits.emplace_back(&rows[row * vocab_size_], vocab_size_);
      const std::vector<std::span<const std::int32_t>> histories(ids.size());
      steps_.Do("sample for several", [&] { batch->Sample(pointers, logits, histories, ids, {}); });
      steps_.Check(ids);
    }
  }

  Steps& steps_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<const DrafterCheckpoint> drafter_;
  std::size_t vocab_size_;
  std::vector<float> logits_;
  std::shared_ptr<Decoder> decoder_, fork_, twin_;
  std::optional<Sampler> sampler_;
  std::optional<Drafter> guess_;
};

// Texts to tokens and back.
void Tokenize(Steps& steps, const std::string& path) {
  std::optional<Tokenizer> tokenizer;
  if (path.ends_with(".json")) {
    steps.Do("open a tokenizer", [&] { tokenizer.emplace(ReadTokenizerJson(path)); });
  } else {
    const auto checkpoint = LoadCheckpoint(path, {.threads = 1});
    steps.Do("open a tokenizer", [&] { tokenizer = ReadGgufTokenizer(checkpoint->metadata); });
  }
  std::vector<TokenId> ids;
  steps.Do("encode", [&] { ids = *tokenizer->Encode("The fox, the hen and the Käse.", ControlTokens::kParse, {}); });
  steps.Check(ids);
  std::string text;
  steps.Do("decode", [&] { text = tokenizer->Decode(ids); });
  steps.Check(std::span<const char>(text));
}

// Scales for activations.
void Calibrate(Steps& steps, const std::string& path) {
  std::unique_ptr<Calibration> calibration;
  steps.Do("observe", [&] {  // from the beginning: what was counted is void after a failure
    auto counted = std::make_unique<Calibration>(path, kThreads);
    counted->Observe(Prompt(40), {});
    calibration = std::move(counted);
  });
  std::vector<std::pair<std::string, float>> scales;
  steps.Do("find scales", [&] { scales = calibration->Scales({}); });
  for (const auto& [name, scale] : scales) steps.Check(std::span(&scale, 1));
}

// Every matrix in Q4_0.
void Convert(Steps& steps, const std::string& path) {
  Source source(path, kThreads);
  for (std::size_t i = 0; i < source.tensors().size(); ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    if (tensor.rows() == 1) continue;
    const Output output;
    std::size_t bytes = 0;
    steps.Do("encode", [&] {
      const auto encoder = MakeRowEncoder("q4_0", "recover", tensor);
      bytes = tensor.rows() * encoder->row_bytes();
      source.Encode(i, *encoder, output.target(), false, {});
    });
    steps.Check(output.Read(bytes));
  }
}

// `scene` of one file or folder.
template <class Scene>
void Run(const char* what, const std::string& path, std::uint64_t stride, const Scene& scene) {
  Tally tally;
  Play(stride, tally, [&](Steps& steps) { scene(steps, path); });
  std::printf("%s %s: %llu steps without memory, %llu requests refused, %llu exceptions\n", what, path.c_str(),
              static_cast<unsigned long long>(tally.steps), static_cast<unsigned long long>(tally.refused),
              static_cast<unsigned long long>(tally.threw));
  std::fflush(stdout);
}

void RunModel(const std::string& path, std::uint64_t stride, const std::string& drafter = "") {
  Run("load", path, stride, [&](Steps& steps, const std::string&) { LoadAndAsk(steps, path, drafter); });
  const auto checkpoint = LoadCheckpoint(path, {.threads = kThreads});
  const auto draft_model = drafter.empty() ? nullptr : LoadDrafter(drafter, checkpoint, {});
  Run("run", path, 1 + stride / 10,
      [&](Steps& steps, const std::string&) { Sequence(steps, checkpoint, draft_model).Play(); });
}

// With each number of threads that the system may grant: as many as it does, and the same bits.
void RunThreads(const std::string& path) {
  constexpr int kWanted = 4;
  std::vector<std::vector<float>> logits;
  for (const bool all_behind : {false, true}) {
    for (int granted = 0; granted < kWanted; ++granted) {
      step_name = "load with few threads";
      thread_requests.Refuse(static_cast<std::uint64_t>(granted), all_behind);
      const auto checkpoint = LoadCheckpoint(path, {.threads = kWanted});
      thread_requests.Grant();
      if (checkpoint->model.workers->threads() != 1 + granted) throw Wrong("another number of threads than granted");
      logits.emplace_back(checkpoint->model.config.vocab_size);
      Decoder(ModelOf(checkpoint)).Prefill(Prompt(40), logits.back(), {});
      if (logits.back() != logits.front()) throw Wrong("other logits with fewer threads");
    }
  }
  std::printf("threads %s: %zu loads with 1 to %d of %d\n", path.c_str(), logits.size(), kWanted, kWanted);
}

}  // namespace
}  // namespace gemmule

int main(int argc, char** argv) {
  using namespace gemmule;
  if (argc < 2) return 2;
  const std::string fixtures = std::string(argv[1]) + "/";
  std::set_terminate([] {
    std::fprintf(stderr, "run_failures: %s ended the program, where request %llu%s was refused\n", step_name,
                 static_cast<unsigned long long>(turn_now.first), turn_now.all_behind ? " and all behind it" : "");
    std::abort();
  });
  try {
    const std::uint64_t stride = argc > 2 ? std::stoull(argv[2]) : 1;
    RunThreads(fixtures + "mobile");
    Run("tokenize", fixtures + "mobile/tokenizer.json", stride, Tokenize);
    Run("tokenize", fixtures + "gguf_e2b/model-Q4_0.gguf", stride, Tokenize);
    RunModel(fixtures + "mobile", stride);
    RunModel(fixtures + "gguf_e2b/model-Q4_0.gguf", stride);
    RunModel(fixtures + "ct_w4a16", stride);
    RunModel(fixtures + "moe", stride);
    RunModel(fixtures + "e2b", stride, fixtures + "mtp_ordered");
    Run("convert", fixtures + "e2b", 1, Convert);
    Run("calibrate", fixtures + "e2b", 10 * stride, Calibrate);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_failures: %s, where request %llu%s was refused: %s\n", step_name,
                 static_cast<unsigned long long>(turn_now.first), turn_now.all_behind ? " and all behind it" : "",
                 error.what());
    return 1;
  }
}
