// No exception gets out of what Rust calls.
#pragma once
#include <exception>
#include <string>

namespace pipe {
// What went wrong last on this thread.
inline thread_local std::string last_error;

// 0, or 1 where `f` failed.
template <class F>
int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}
}  // namespace pipe
