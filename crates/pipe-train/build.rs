//! Compiles the C++ shim, sets where the binaries look for libtorch, and stamps the build id.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=src/shim.cpp");
    let libtorch = PathBuf::from(std::env::var_os("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml; run `cargo xtask setup` first"));
    assert!(libtorch.join("include").is_dir(), "{} holds no libtorch: run `cargo xtask setup` first", libtorch.display());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        // libtorch's headers are not ours to mend.
        .flag("-w")
        .file("src/shim.cpp")
        .compile("pipe_shim");
    // Here rather than in .cargo/config.toml: flags there are lost when a user sets RUSTFLAGS.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/libtorch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
}
