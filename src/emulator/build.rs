//! Compiles the GPU engine's kernels for the processor, and sees whether the compiler has sanitizers.

use std::path::{Path, PathBuf};

fn main() {
    for file in ["emulator.h", "emulator.cpp", "sanitized.cpp", "../gpu/kernels"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include("../gpu/kernels")
        .include(".")
        // Its checks forbid to jump from one stack to another.
        .flag_if_supported("-U_FORTIFY_SOURCE")
        .flag_if_supported("-Wno-unknown-pragmas")
        // Products and sums are not contracted, so that results don't hang on the compiler.
        .flag_if_supported("-ffp-contract=off")
        .opt_level(2);
    let compiler = build.get_compiler();
    println!("cargo:rustc-env=NANOCHAT_CXX={}", compiler.path().display());
    println!("cargo:rustc-check-cfg=cfg(sanitizers)");
    if has_sanitizers(compiler.to_command()) {
        println!("cargo:rustc-cfg=sanitizers");
    }
    build.file("emulator.cpp").compile("nanochat_emulator");
}

/// Whether a program with sanitizers can be compiled, linked and run.
fn has_sanitizers(mut compiler: std::process::Command) -> bool {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let (source, program) = (out.join("probe.cpp"), out.join("probe"));
    let written = std::fs::write(&source, "int main() { return 0; }\n").is_ok();
    let mut built = || compiler.arg("-fsanitize=address,undefined").arg(&source).arg("-o").arg(&program).output();
    let succeeded = |output: std::io::Result<std::process::Output>| output.is_ok_and(|output| output.status.success());
    written && succeeded(built()) && succeeded(std::process::Command::new(Path::new(&program)).output())
}
