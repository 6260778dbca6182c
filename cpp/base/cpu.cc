#include "base/cpu.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "base/error.h"
#include "hwy/targets.h"

namespace gemmule {
namespace {

// Bits of the targets that are compiled in and that the processor has, best (lowest bit) first. Asked for once, before
// any target is set: other threads may compute later on.
const std::vector<std::int64_t>& TargetBits() {
  static const std::vector<std::int64_t> kBits = [] {
    std::vector<std::int64_t> bits;
    std::int64_t rest = hwy::SupportedTargets() & HWY_TARGETS;
    for (; rest != 0; rest &= rest - 1) bits.push_back(rest & -rest);
    return bits;
  }();
  return kBits;
}

std::string& ForcedTarget() {
  static std::string name;
  return name;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Cores' worth of time the cgroup grants, or a large number.
double CgroupQuota() {
  double quota = 1e9;
  double period = 0.0;
  std::string first;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> first >> period && first != "max" && period > 0) {
    quota = std::min(quota, std::strtod(first.c_str(), nullptr) / period);
  }
  double amount = -1.0;
  std::ifstream v1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1 >> amount && v1_period >> period && amount > 0 && period > 0) quota = std::min(quota, amount / period);
  return quota;
}

}  // namespace

std::vector<std::string> Targets() {
  std::vector<std::string> names;
  for (const std::int64_t bit : TargetBits()) names.emplace_back(hwy::TargetName(bit));
  return names;
}

std::string Target() { return ForcedTarget().empty() ? Targets().front() : ForcedTarget(); }

void SetTarget(const std::string& name) {
  std::int64_t chosen = 0;
  std::vector<std::string> names;
  for (const std::int64_t bit : TargetBits()) {
    names.emplace_back(hwy::TargetName(bit));
    if (names.back() == name) chosen = bit;
  }
  if (!name.empty() && chosen == 0) {
    throw ArgumentError("GEMMULE_TARGET is " + name + ", which is not among the targets of this processor (" +
                        Joined(names) + "): set it to one of them, or unset it");
  }
  hwy::SetSupportedTargetsForTest(chosen);
  ForcedTarget() = name;
}

void SetTargetFromEnvironment() {
  if (const char* name = std::getenv("GEMMULE_TARGET"); name != nullptr && *name != '\0') SetTarget(name);
}

std::vector<std::string> Features() {
  static const std::set<std::string> kUseful = {"avx2",     "fma",         "f16c",         "avx512f",     "avx512bw",
                                                "avx512vl", "avx512_vnni", "avx512_vbmi2", "avx512_bf16", "asimd",
                                                "asimddp",  "i8mm",        "bf16",         "asimdhp",     "sve"};
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::vector<std::string> found;
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) {
      if (kUseful.contains(word)) found.push_back(word);
    }
    break;
  }
  return found;
}

int DefaultThreads() {
  // A mask of 1,024 processors, the usual size; larger machines answer EINVAL and get one core's default.
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  std::set<std::string> cores;  // one entry for all hardware threads of a core
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::string siblings;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    cores.insert(std::getline(file, siblings) ? siblings : std::to_string(cpu));
  }
  const double quota = std::max(1.0, std::floor(CgroupQuota() + 0.5));
  return static_cast<int>(std::clamp(static_cast<double>(cores.size()), 1.0, quota));
}

}  // namespace gemmule
