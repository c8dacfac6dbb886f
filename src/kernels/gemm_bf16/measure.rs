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

/// Seconds of one million tile products on registers alone, in four independent chains: the limit of AMX.
#[cfg(target_arch = "x86_64")]
fn million_tile_products() -> f64 {
    use super::kernel::Kernel;
    best_time(|| {
        // SAFETY: called where AMX is available; `begin` configures the tiles, and the loop changes but them and one
        // register.
        unsafe {
            amx::Amx::begin();
            std::arch::asm!(
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) 250_000usize => _,
                options(nostack),
            );
            amx::Amx::end();
        }
    })
}

/// Seconds of 24 million multiplications of 16 × 2 pairs, or else of 16 elements, in 24 independent chains.
#[cfg(target_arch = "x86_64")]
fn million_vector_products(pairs: bool) -> f64 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn chains(pairs: bool, number: f32) -> f32 {
        let elements = _mm512_set1_ps(number);
        // SAFETY: both types are 64 bytes of which any bits are valid.
        let bf16s: __m512bh = unsafe { std::mem::transmute(elements) };
        let mut sums = [elements; 24];
        for _ in 0..1_000_000 {
            for sum in &mut sums {
                *sum = if pairs {
                    _mm512_dpbf16_ps(*sum, bf16s, bf16s)
                } else {
                    _mm512_fmadd_ps(*sum, elements, elements)
                };
            }
        }
        sums.iter().map(|sum| _mm512_reduce_add_ps(*sum)).sum()
    }
    // SAFETY: called where AVX512-BF16 is available.
    best_time(|| {
        std::hint::black_box(unsafe { chains(pairs, std::hint::black_box(0.0)) });
    })
}

/// What one core's registers allow, in GFLOP/s.
#[test]
#[ignore = "a measurement, not a check"]
#[cfg(target_arch = "x86_64")]
fn peak() {
    if Path::Avx512Bf16.is_available() {
        let rate = |flops: f64, seconds: f64| 24e6 * flops / seconds / 1e9;
        println!("f32 FMA {:.0}", rate(32.0, million_vector_products(false)));
        println!("vdpbf16ps {:.0}", rate(64.0, million_vector_products(true)));
    }
    if Path::Amx.is_available() {
        println!("tdpbf16ps {:.0}", 1e6 * (16 * 16 * 32 * 2) as f64 / million_tile_products() / 1e9);
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
        println!("{threads} thread(s), GFLOP/s: NT (packed) to f32, to bf16; NN (packed); TN, mode");
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
            if Path::Amx.is_available() {
                let weight = Matrix::rounded(&wide[..n * k], n, k);
                let (x, dy) = (Matrix::rounded(&wide, tokens, k), Matrix::rounded(&wide, tokens, n));
                let nt = time(&mut || gemm_f32(x, weight.transposed(), Output::set(&mut c), false));
                let nn = time(&mut || gemm_f32(dy, weight, Output::set(&mut c), false));
                let tn = time(&mut || gemm_f32(dy.transposed(), x, Output::add(&mut c), false));
                println!("N {n:5} K {k:5} {:12} {nt:7.0} {:7} {nn:7.0} {tn:7.0}", "amx f32", "");
            }
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
