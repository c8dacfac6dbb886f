//! Every kernel under the compiler's address and undefined-behaviour sanitizers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program of `sanitized.cpp`.
fn program() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("OUT_DIR")).join("sanitized");
    let flags = ["-std=c++17", "-O1", "-g", "-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas"];
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let mut compiler = Command::new(env!("NANOCHAT_CXX"));
    compiler.args(flags).args(sanitizers).arg("-I").arg(here.join("../gpu/kernels")).arg("-I").arg(here);
    let compiled = compiler.arg(here.join("sanitized.cpp")).arg("-o").arg(&program).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
#[cfg_attr(not(sanitizers), ignore = "the C++ compiler has no sanitizers")]
fn no_kernel_reads_or_writes_outside_its_operands() {
    let program = program();
    let sound = Command::new(&program).output().unwrap();
    assert!(sound.status.success() && told(&sound).contains("every kernel ran"), "{}", told(&sound));
    // The sanitizer is there, and sees a write one element too far.
    let planted = Command::new(&program).arg("overrun").output().unwrap();
    assert!(!planted.status.success() && told(&planted).contains("heap-buffer-overflow"), "{}", told(&planted));
}
