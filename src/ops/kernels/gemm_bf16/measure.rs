//! GFLOP/s of every path beside the `gemm` crate in f32: `cargo test --release --lib gemm_bf16::measure -- --ignored
//! --nocapture --test-threads 1`.

use std::time::Instant;

use gemm::Parallelism;
use half::bf16;

use super::*;

/// The best of several runs, as the machine may be shared: seconds of one call.
fn best_time(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    call();
    let calls = (0.01 / start.elapsed().as_secs_f64()).ceil().clamp(1.0, 1000.0) as usize;
    let time = |_| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_secs_f64() / calls as f64
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn f32_gemm(
    m: usize,
    n: usize,
    k: usize,
    a: (&[f32], [isize; 2]),
    b: (&[f32], [isize; 2]),
    c: &mut [f32],
    threads: usize,
) {
    let parallelism = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    // SAFETY: the slices hold the matrices that sizes and strides describe.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.0.as_ptr(),
            a.1[1],
            a.1[0],
            b.0.as_ptr(),
            b.1[1],
            b.1[0],
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[test]
#[ignore = "a measurement, not a check"]
fn throughput() {
    let tokens = 4096;
    let shapes = [(256, 256), (1024, 256), (256, 1024), (4096, 256), (768, 768), (3072, 768)];
    let largest = tokens * 4096;
    let wide: Vec<f32> = (0..largest).map(|i| ((i * 7919) % 1013) as f32 / 506.0 - 1.0).collect();
    let mut narrow_numbers = vec![bf16::ZERO; largest];
    narrow(&wide, &mut narrow_numbers);
    let (x, w) = (&narrow_numbers[..], &narrow_numbers[..]);
    let mut c = vec![0f32; largest];
    let mut half_c = vec![bf16::ZERO; largest];
    for threads in [1, 2] {
        println!("{threads} thread(s), GFLOP/s: NT (packed) to f32, to bf16; NN (packed); TN, onto");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        for (n, k) in shapes {
            let rate = |seconds: f64| 2.0 * (tokens * n * k) as f64 / seconds / 1e9;
            let time = |call: &mut (dyn FnMut() + Send)| rate(pool.install(|| best_time(call)));
            let rows = |m: usize, n: usize, transposed| if transposed { [1, m as isize] } else { [n as isize, 1] };
            let nt = |c: &mut [f32]| {
                f32_gemm(tokens, n, k, (&wide, rows(tokens, k, false)), (&wide, rows(k, n, true)), c, threads)
            };
            let nt = time(&mut || nt(&mut c));
            let nn = |c: &mut [f32]| {
                f32_gemm(tokens, k, n, (&wide, rows(tokens, n, false)), (&wide, rows(n, k, false)), c, threads)
            };
            let nn = time(&mut || nn(&mut c));
            let tn = |c: &mut [f32]| {
                f32_gemm(n, k, tokens, (&wide, rows(n, tokens, true)), (&wide, rows(tokens, k, false)), c, threads)
            };
            let tn = time(&mut || tn(&mut c));
            println!("N {n:5} K {k:5} {:12} {nt:7.0} {:7} {nn:7.0} {tn:7.0}", "gemm f32", "");
            for path in Path::available().filter(|path| *path != Path::Portable) {
                let mut packed = PackedB::new();
                packed.pack_for(path, Matrix::new(&w[..n * k], n, k).transposed());
                let a = Matrix::new(&x[..tokens * k], tokens, k);
                let nt = time(&mut || gemm_packed(a, &packed, Output::set(&mut c)));
                let nt_half = time(&mut || gemm_packed(a, &packed, Output::bf16(&mut half_c)));
                packed.pack_for(path, Matrix::new(&w[..n * k], n, k));
                let dy = Matrix::new(&x[..tokens * n], tokens, n);
                let nn = time(&mut || gemm_packed(dy, &packed, Output::set(&mut c)));
                let tn = time(&mut || gemm_by(path, dy.transposed(), a, Output::add(&mut c), false));
                println!("N {n:5} K {k:5} {:12} {nt:7.0} {nt_half:7.0} {nn:7.0} {tn:7.0}", path.name());
            }
        }
    }
}
