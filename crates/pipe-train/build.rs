//! Compiles the C++ shim, sets where the binaries look for libtorch, and stamps the build id.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(std::env::var_os("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml; run `cargo xtask setup` first"));
    assert!(libtorch.join("include").is_dir(), "{} holds no libtorch: run `cargo xtask setup` first", libtorch.display());
    println!("cargo:rerun-if-changed=cpp");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        // libtorch's headers are not ours to mend.
        .flag("-w");
    build.clone().file("cpp/shim.cpp").compile("pipe_shim");
    // Optimised whatever cargo's profile is: a test would wait for its loops. With libtorch's own OpenMP, so that both share
    // their threads; without `-ffast-math`, which would take infinities and NaNs for granted not to be.
    build
        .files(["cpp/kernels.cpp", "cpp/gemm.cpp", "cpp/step.cpp"])
        .opt_level(3)
        .flags(["-fopenmp", "-fno-math-errno", "-fno-trapping-math"])
        .compile("pipe_kernels");
    println!("cargo:rustc-link-lib=gomp");
    // Here rather than in .cargo/config.toml: flags there are lost when a user sets RUSTFLAGS.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/libtorch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
}
