// The fastest of three versions of a function, chosen when the program starts by what the processor has (levels of the x86-64 psABI; a
// name such as `haswell` would leave out the processors of others).
#pragma once

#if defined(__x86_64__) && !defined(__clang__) && __GNUC__ >= 12
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
