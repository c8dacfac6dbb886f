//! Compiles the kernels for GPUs, and the part in C++ that asks cuDNN for attention. Nothing without the feature `cuda`.
//!
//! `NVCC` names CUDA's compiler, else it is looked for on the PATH. `NANOCHAT_CUDNN_INCLUDE` has the folders with the headers of
//! cuDNN, of its frontend and of CUDA, with colons between them (`cuda/build` sets it). With `NANOCHAT_CUDA_CHECK` nothing is
//! compiled, for a check of types (`cuda/check`).

use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "../gpu/kernels";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["NVCC", "NANOCHAT_CUDNN_INCLUDE", "NANOCHAT_CUDA_CHECK"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-changed=attention.cpp");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    if std::env::var_os("NANOCHAT_CUDA_CHECK").is_some() {
        for name in ["kernels.cubin", "kernels.ptx"] {
            std::fs::write(out.join(name), "").expect("an empty file in OUT_DIR");
        }
        println!("cargo:rustc-env=NANOCHAT_CUDA_RELEASE=0.0");
        return;
    }
    println!("cargo:rustc-env=NANOCHAT_CUDA_RELEASE={}", release());
    compile_kernels(&out.join("kernels.cubin"), &["-cubin", "-arch=sm_90a"]);
    compile_kernels(&out.join("kernels.ptx"), &["-ptx", "-arch=compute_80"]);
    compile_attention();
}

fn nvcc() -> Command {
    Command::new(std::env::var_os("NVCC").unwrap_or_else(|| "nvcc".into()))
}

/// CUDA's release, such as 13.0.
fn release() -> String {
    let output = nvcc().arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("CUDA's compiler can't be started ({error}): use cuda/build"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = text.split("release ").nth(1).and_then(|rest| rest.split(',').next());
    release.unwrap_or_else(|| panic!("nvcc doesn't say its release: {text}")).to_string()
}

fn compile_kernels(to: &Path, what: &[&str]) {
    let source = Path::new(KERNELS).join("kernels.cu");
    let mut command = nvcc();
    command.args(["-std=c++17", "-O3", "--Werror=all-warnings"]).args(what).arg("-o").arg(to).arg(&source);
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn compile_attention() {
    let folders = std::env::var("NANOCHAT_CUDNN_INCLUDE").unwrap_or_default();
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).file("attention.cpp");
    for folder in folders.split(':').filter(|folder| !folder.is_empty()) {
        build.flag("-isystem").flag(folder);
    }
    build.compile("nanochat_attention");
    println!("cargo:rustc-link-lib=dylib=dl");
}
