// The processor: which instruction set the kernels use, and how many threads are worth starting.
#pragma once

#include <string>
#include <vector>

namespace gemmule {

// Names of the instruction sets that are compiled in and that this processor has, best first.
std::vector<std::string> Targets();

// The one kernels use now.
std::string Target();

// Kernels use this one from now on, in the whole process; "" is the best. Throws ArgumentError for a name that is not
// in Targets(). Not while another thread computes.
void SetTarget(const std::string& name);

// Applies the environment variable GEMMULE_TARGET, if set. Throws ArgumentError.
void SetTargetFromEnvironment();

// What the processor offers beyond the baseline, as /proc/cpuinfo spells it, of what the kernels can use.
std::vector<std::string> Features();

// Physical cores this process may use: its affinity mask, one per core, at most its cgroup's processor quota.
int DefaultThreads();

}  // namespace gemmule
