#include "engine/kernel_bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numbers>
#include <vector>

#include "base/error.h"
#include "kernels/elementwise.h"
#include "kernels/int8_rows.h"
#include "kernels/limits.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace gemmule {
namespace {

constexpr double kShareOut = 1e6;  // ns an element, for Parallel::For: worth other threads in any case

template <class Work>
double Seconds(const Work& work) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

double KernelBench::Read(std::span<const std::byte> data, std::uint32_t* sum) {
  const Exclusive::Use use(in_use_);
  constexpr std::size_t kVector = 64;  // bytes
  std::atomic<std::uint32_t> total{0};
  const double seconds = Seconds([&] {
    parallel_.For(data.size() / kVector, 1, kShareOut, [&](std::size_t begin, std::size_t end) {
      total += SumWords(data.subspan(begin * kVector, (end - begin) * kVector));
    });
  });
  *sum = total;
  return seconds;
}

double KernelBench::MultiplyAdds(std::size_t rounds, std::uint64_t* count) {
  const Exclusive::Use use(in_use_);
  const auto parts = static_cast<std::size_t>(threads()) * 8;  // one for each piece of the loop
  std::vector<std::uint64_t> counts(parts);
  const double seconds = Seconds([&] {
    parallel_.For(parts, 1, kShareOut, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) counts[i] = gemmule::MultiplyAdds(rounds);
    });
  });
  const bool right = std::none_of(counts.begin(), counts.end(), [](std::uint64_t n) { return n == 0; });
  *count = right ? parts * counts.front() : 0;
  return seconds;
}

double KernelBench::Linears(std::span<const Linear* const> modules, const float* x, std::size_t tokens, float* y) {
  const Exclusive::Use use(in_use_);
  return Seconds([&] {
    for (const Linear* module : modules) linear_.Run(x, tokens, {{module, y, module->weight.rows}});
  });
}

double KernelBench::Attention(const AttentionSegment& segment, const AttentionShape& shape, std::span<float> q) {
  const Exclusive::Use use(in_use_);
  return Seconds([&] { attention_.Run({&segment, 1}, shape, q.data()); });
}

double KernelBench::Rows(const std::string& kernel, std::span<float> x, std::size_t n) {
  const Exclusive::Use use(in_use_);
  const auto each = [&](const auto& body) {
    return Seconds([&] {
      for (std::size_t at = 0; at < x.size(); at += n) body(x.subspan(at, n));
    });
  };
  constexpr float kScale = 1.0f / 32;
  if (kernel == "rms_norm") {
    const std::vector<float> weight(n, 1.0f);
    return each([&](std::span<float> row) { RmsNorm(row, weight, 1e-6f, row); });
  }
  if (kernel == "rope") {
    const std::vector<float> half(n / 2, static_cast<float>(1 / std::numbers::sqrt2));  // cos and sin of 45 degrees
    return each([&](std::span<float> row) { Rope(half, half, row); });
  }
  if (kernel == "gelu_mul") return each([](std::span<float> row) { GeluMul(row, row, row); });
  if (kernel == "softcap") return each([](std::span<float> row) { Softcap(30.0f, row); });
  if (kernel == "round_to_grid") return each([](std::span<float> row) { RoundToGrid(kScale, row); });
  if (kernel == "quantize_static") {
    constexpr Encoding kEncoding = Encoding::kC4;
    const std::size_t tokens = x.size() / n;
    Int8Rows rows = Int8Rows::Layout(kEncoding, n, tokens, 1);
    Buffer<std::int8_t> codes(rows.size());
    Buffer<std::int32_t> sums(tokens);
    Buffer<float> scales(tokens);
    rows.codes = codes.data();
    rows.sums = sums.data();
    rows.scales = scales.data();
    std::size_t t = 0;
    const double seconds = each([&](std::span<float> row) { QuantizeStatic(rows, t++, row, kScale); });
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = kScale * rows.Code(i / n, i % n);
    return seconds;
  }
  throw ArgumentError("no kernel of rows is called " + kernel);
}

}  // namespace gemmule
