// Runs every kernel on every instruction set that this processor has, on numbers made here, and prints a line for each
// call: the kernel, its sizes, a hash of its result.
//
//   run_kernels
//
// Exit code 1 where two instruction sets with fused multiply-add differ; on other machines the lines are the same too.
// That they are right is what tests/kernels says. Lengths lie around the vectors' widths; operands and results end
// where a forbidden page begins.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/workers.h"
#include "guarded.h"
#include "kernels/code_scales.h"
#include "kernels/elementwise.h"
#include "kernels/encode.h"
#include "kernels/encode_codes.h"
#include "kernels/kl_divergence.h"
#include "kernels/kv_block.h"
#include "kernels/largest.h"
#include "kernels/log_sum_exp.h"
#include "kernels/masked.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/steps.h"
#include "kernels/sum_of_squares.h"
#include "model/attention.h"
#include "model/linear.h"
#include "quant/row.h"

namespace gemmule {
namespace {

// Equal numbers everywhere: 64-bit integers (splitmix64), and floats that hold them exactly.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t Next() {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
  }
  // In [-1, 1).
  float Float() { return static_cast<float>(static_cast<std::int32_t>(Next() >> 32) >> 8) * 0x1p-23f; }

  void Fill(std::span<float> x, float factor) {
    for (float& value : x) value = factor * Float();
  }
  void Fill(std::span<std::byte> x) {
    for (std::byte& value : x) value = static_cast<std::byte>(Next() >> 56);
  }

 private:
  std::uint64_t state_;
};

std::vector<std::string> lines;  // of one instruction set

template <class T>
void Add(const std::string& call, std::span<T> result) {
  std::uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const std::byte byte : std::as_bytes(result)) {
    hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3;
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  lines.push_back(call + " " + digits);
}

void Add(const std::string& call, double result) { Add(call, std::span(&result, 1)); }

// "name 3 4"
template <class... Sizes>
std::string Call(std::string_view name, Sizes... sizes) {
  std::string text(name);
  ((text += " " + std::to_string(sizes)), ...);
  return text;
}

std::vector<std::size_t> Lengths() {
  std::vector<std::size_t> lengths = {255, 256, 257, 1536};
  for (std::size_t n = 1; n <= 70; ++n) lengths.push_back(n);
  return lengths;
}

// `change` on a copy of x.
template <class Change>
void AddChanged(const std::string& call, const Guarded<float>& x, const Change& change) {
  const Guarded<float> y(x.size());
  std::copy_n(x.data(), x.size(), y.data());
  change(y.span());
  Add(call, y.span());
}

void RunVectors(std::size_t n) {
  Random random(n);
  const Guarded<float> x(n), w(n);
  random.Fill(x.span(), 9.0f);
  random.Fill(w.span(), 2.0f);
  AddChanged(Call("exp", n), x, [&](auto y) { Exp(y, y); });
  AddChanged(Call("gelu_mul", n), x, [&](auto y) { GeluMul(y, w.span(), y); });
  AddChanged(Call("softcap", n), x, [&](auto y) { Softcap(3.0f, y); });
  AddChanged(Call("round_to_grid", n), x, [&](auto y) { RoundToGrid(0.03257552f, y); });
  AddChanged(Call("add_to", n), x, [&](auto y) { AddTo(w.span(), y); });
  AddChanged(Call("scale", n), x, [&](auto y) { Scale(0.7f, y); });
  AddChanged(Call("rms_norm", n), x, [&](auto y) { RmsNorm(y, w.span(), 1e-6f, y); });
  AddChanged(Call("rms_norm_without_weight", n), x, [&](auto y) { RmsNorm(y, {}, 1e-6f, y); });
  if (n % 2 == 0) {
    const Guarded<float> cos(n / 2), sin(n / 2);
    random.Fill(cos.span(), 1.0f);
    random.Fill(sin.span(), 1.0f);
    AddChanged(Call("rope", n), x, [&](auto y) { Rope(cos.span(), sin.span(), y); });
  }
  Add(Call("sum_of_squares", n), SumOfSquares(x.span()));
  Add(Call("largest", n), Largest(x.span()));
  const Guarded<std::uint8_t> bits((n + 7) / 8);
  for (std::uint8_t& byte : bits.span()) byte = static_cast<std::uint8_t>(random.Next());
  AddChanged(Call("masked", n), x, [&](auto y) { Masked(w.span(), bits.span(), y); });
  Add(Call("log_sum_exp", n), LogSumExp(x.span()));
  Add(Call("kl_divergence", n), KlDivergence(x.span(), LogSumExp(x.span()), w.span(), LogSumExp(w.span())));
}

// Where the blocks of GGUF have their float16 scale and minimum.
std::vector<std::size_t> HalvesOf(Encoding encoding) {
  switch (encoding) {
    case Encoding::kQ4_0:
    case Encoding::kQ5_0:
    case Encoding::kQ8_0: return {0};
    case Encoding::kQ4_1:
    case Encoding::kQ5_1:
    case Encoding::kQ4_K:
    case Encoding::kQ5_K: return {0, 2};
    case Encoding::kQ6_K: return {208};
    default: return {};
  }
}

// A matrix, and scales where they lie apart.
struct Matrix {
  Matrix(Encoding encoding, std::size_t rows, std::size_t cols)
      : bytes(rows * RowBytes(encoding, cols)),
        scales(IsCoded(encoding)           ? rows
               : encoding == Encoding::kG4 ? rows * cols / 32
                                           : 0),
        view{encoding, bytes.data(), rows, cols, {}} {
    Random random(1000 * rows + cols);
    if (CanEncode(encoding) && !IsBlock(encoding)) {  // random bits might be NaN
      std::vector<float> row(cols);
      EncodeCounts counts;
      for (std::size_t i = 0; i < rows; ++i) {
        random.Fill(row, 1.0f);
        EncodeWeights({.target = encoding}, row, bytes.data() + i * view.RowBytes(), counts);
      }
      return;
    }
    random.Fill(bytes.span());
    for (std::size_t block = 0; block < bytes.size(); block += BlockBytes(encoding)) {
      for (const std::size_t at : HalvesOf(encoding)) {  // 2^-7 to 2^1, of any sign
        std::byte& high = bytes[block + at + 1];
        const auto bits = std::to_integer<unsigned>(high);
        high = static_cast<std::byte>((bits & 0x83) | (8 + (bits >> 2 & 7)) << 2);
      }
    }
    for (float& scale : scales.span()) scale = 0.02f + 0.01f * random.Float();
    if (scales.size() > 0) {
      view.scales = {std::as_bytes(scales.span()).data(), scales.size(), Encoding::kF32};
    }
  }

  Guarded<std::byte> bytes;
  Guarded<float> scales;
  MatrixView view;
};

void RunProduct(const Matrix& matrix, std::size_t tokens, Products products, float input_scale, std::string_view name) {
  const MatrixView& w = matrix.view;
  const Guarded<float> x(tokens * w.cols), y(tokens * w.rows);
  Random(tokens).Fill(x.span(), 4.0f);
  Workers workers(1);
  Parallel parallel(workers);
  const Linear linear{.name = {}, .weight = w, .input_scale = input_scale, .is_last = true};
  LinearRunner(products, parallel).Run(x.data(), tokens, {{&linear, y.data(), w.rows}});
  Add(Call(std::string(name) + " " + std::string(Name(w.encoding)), w.rows, w.cols, tokens), y.span());
}

void RunProducts(Encoding encoding) {
  std::vector<std::size_t> widths = {1, 2, 3, 7, 9};  // blocks
  if (!IsBlock(encoding)) widths = {4, 12, 20, 32, 36, 64, 68, 96, 132, 288, 516};
  for (std::size_t width : widths) {
    const std::size_t cols = IsBlock(encoding) ? width * BlockElements(encoding) : width;
    for (const std::size_t rows : {1, 3, 4, 17, 33}) {
      const Matrix matrix(encoding, rows, cols);
      for (const std::size_t tokens : {1, 2, 5, 16}) {
        RunProduct(matrix, tokens, Products::kFloat32, 0.0f, "matmul_f32");
        if (IsBlock(encoding)) RunProduct(matrix, tokens, Products::kInteger, 0.0f, "matmul_blocks_i8");
        if (!IsCoded(encoding)) continue;
        RunProduct(matrix, tokens, Products::kInteger, 0.03257552f, "matmul_i8");
        RunProduct(matrix, tokens, Products::kInteger, 0.0f, "matmul_i8_two_digits");
      }
    }
    const Matrix row(encoding, 1, cols);
    const Guarded<float> decoded(cols);
    DecodeRow(encoding, row.bytes.span(), row.view.scales, decoded.span());
    Add(Call("decode_row " + std::string(Name(encoding)), cols), decoded.span());
  }
}

void RunEncoders(std::size_t n) {
  const Guarded<float> x(n);
  Random(n).Fill(x.span(), 0.1f);
  for (const Encoding target : kEncodings) {
    if (!CanEncode(target) || n % BlockElements(target) != 0) continue;
    for (const Grid grid : {Grid::kLlama, Grid::kRecover}) {
      const Guarded<std::byte> out(RowBytes(target, n));
      EncodeCounts counts;
      EncodeWeights({.target = target, .grid = grid}, x.span(), out.data(), counts);
      Add(Call("encode " + std::string(Name(target)), static_cast<int>(grid), n), out.span());
    }
  }
  for (const Encoding codes : {Encoding::kC2, Encoding::kC4, Encoding::kC8, Encoding::kU8, Encoding::kG4}) {
    if (n % Planes(codes) != 0) continue;
    for (const ScaleRule rule : {ScaleRule::kAbsmax, ScaleRule::kSearch, ScaleRule::kRecover}) {
      float scale = 0.0f;
      FindScales(rule, codes, Encoding::kF32, Encoding::kF32, x.span(), {&scale, 1});
      const Guarded<std::byte> out(n / Planes(codes));
      EncodeCounts counts;
      EncodeCodes(codes, Encoding::kF32, x.span(), {&scale, 1}, out.data(), counts);
      const std::string call = Call("codes " + std::string(Name(codes)), static_cast<int>(rule), n);
      Add("scale of " + call, scale);
      Add(call, out.span());
    }
  }
}

// `tokens` queries of two heads that share keys, behind `before` positions.
void RunAttention(Encoding encoding, std::size_t before, std::size_t tokens, std::size_t e) {
  constexpr std::size_t kHeads = 2;
  const bool coded = IsCoded(encoding);
  const float scale = coded ? (encoding == Encoding::kC4 ? 0.25f : 0.02f) : 1.0f;
  const std::size_t n = before + tokens;
  std::vector<Buffer<std::byte>> blocks((n + KvView::kBlock - 1) / KvView::kBlock);
  std::vector<const std::byte*> pointers;
  for (auto& block : blocks) {
    block.Reserve(2 * KvView::kBlock * HeadBytes(encoding, e));
    pointers.push_back(block.data());
  }
  Random random(n);
  const Guarded<float> k(e), v(e), q(tokens * kHeads * e);
  for (std::size_t i = 0; i < n; ++i) {
    random.Fill(k.span(), 2.0f);
    random.Fill(v.span(), 2.0f);
    StoreKeysValues(encoding, k.span(), v.span(), e, scale, scale, i, blocks[i / KvView::kBlock].data());
  }
  const Guarded<std::byte> stored(PositionBytes(encoding, 1, e));
  CopyFromBlock(encoding, 1, e, n - 1, blocks.back().data(), stored.data());
  Add(Call("copy_from_block " + std::string(Name(encoding)), before, tokens, e), stored.span());
  random.Fill(q.span(), 0.5f);
  Workers workers(1);
  Parallel parallel(workers);
  const AttentionSegment segment{{encoding, pointers, HeadBytes(encoding, e), scale, scale}, before, tokens};
  AttentionRunner(parallel).Run({&segment, 1}, {AttentionShape::kNoWindow, kHeads, 1, e}, q.data());
  Add(Call("attend " + std::string(Name(encoding)), before, tokens, e), q.span());
}

void RunAll() {
  for (const std::size_t n : Lengths()) RunVectors(n);
  for (const Encoding encoding : kEncodings) RunProducts(encoding);
  for (const std::size_t n : {4, 12, 32, 36, 64, 96, 160, 256, 512, 1028, 1536}) RunEncoders(n);
  for (const Encoding encoding : {Encoding::kF32, Encoding::kBF16, Encoding::kC8, Encoding::kC4}) {
    for (const std::size_t before : {0, 1, 15, 16, 47, 63, 64, 129, 700}) {
      for (const std::size_t e : {2, 6, 32, 36, 256}) {
        for (const std::size_t tokens : {1, 3, 7}) RunAttention(encoding, before, tokens, e);
      }
    }
  }
}

// The lines of one instruction set.
std::vector<std::string> LinesOf(const std::string& target) {
  SetTarget(target);
  lines.clear();
  RunAll();
  return lines;
}

// Prints the lines of the first instruction set; false where another one that must have them has others.
bool Compare() {
  std::vector<std::string> first;
  bool same = true;
  for (const std::string& target : Targets()) {
    const std::vector<std::string> own = LinesOf(target);
    if (target == "SSE2") continue;  // no fused multiply-add: other roundings
    if (first.empty()) first = own;
    const auto [a, b] = std::mismatch(first.begin(), first.end(), own.begin());
    std::fprintf(stderr, "run_kernels: %s: %zu calls%s\n", target.c_str(), own.size(),
                 a == first.end() ? "" : (", not the same from " + *b + " on").c_str());
    same = same && a == first.end();
  }
  for (const std::string& line : first) std::printf("%s\n", line.c_str());
  return same;
}

}  // namespace
}  // namespace gemmule

int main() {
  try {
    return gemmule::Compare() ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_kernels: %s\n", error.what());
    return 1;
  }
}
