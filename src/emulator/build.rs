//! Compiles the GPU engine's kernels for the processor.

fn main() {
    for file in ["emulator.h", "emulator.cpp", "../gpu/kernels"] {
        println!("cargo:rerun-if-changed={file}");
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("emulator.cpp")
        .include("../gpu/kernels")
        .include(".")
        // Its checks forbid to jump from one stack to another.
        .flag_if_supported("-U_FORTIFY_SOURCE")
        .flag_if_supported("-Wno-unknown-pragmas")
        // Products and sums are not contracted, so that results don't hang on the compiler.
        .flag_if_supported("-ffp-contract=off")
        .opt_level(2)
        .compile("nanochat_emulator");
}
