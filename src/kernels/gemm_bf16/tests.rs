use half::bf16;

use super::*;

/// The elements of one product, in both types, with C's old elements.
pub(super) struct Case {
    sizes: Sizes,
    a: Vec<f32>,
    b: Vec<f32>,
    pub(super) c: Vec<f32>,
}

/// How operands are stored: as they are, or as their transposes; and with which gap between rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    a_is_transposed: bool,
    b_is_transposed: bool,
    gap: usize,
}

pub(super) const NT: Form = Form { a_is_transposed: false, b_is_transposed: true, gap: 0 };
pub(super) const NN: Form = Form { a_is_transposed: false, b_is_transposed: false, gap: 0 };
pub(super) const TN: Form = Form { a_is_transposed: true, b_is_transposed: false, gap: 0 };
const TT: Form = Form { a_is_transposed: true, b_is_transposed: true, gap: 3 };
pub(super) const FORMS: [Form; 5] = [NT, NN, TN, TT, Form { gap: 5, ..NN }];

/// A generator with a fixed seed (Marsaglia's xorshift), so that a failure comes back.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed * 104_729 + 88_172_645_463_325_252)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// An integer from -3 to 3.
    pub(super) fn small(&mut self) -> f32 {
        ((self.bits() >> 32) % 7) as f32 - 3.0
    }
}

impl Case {
    /// ComputeDtype in f32 that bf16 holds exactly.
    fn new(size: (usize, usize, usize), number: impl Fn(&mut Random) -> f32) -> Self {
        let case = Self::unrounded(size, number);
        let round = |elements: Vec<f32>| elements.into_iter().map(|x| bf16::from_f32(x).to_f32()).collect();
        Case { a: round(case.a), b: round(case.b), ..case }
    }

    /// ComputeDtype in f32.
    pub(super) fn unrounded(
        (rows, columns, depth): (usize, usize, usize),
        number: impl Fn(&mut Random) -> f32,
    ) -> Self {
        let mut random = Random::new((rows * 7919 + columns * 104_729 + depth) as u64);
        let mut elements = |len: usize| (0..len).map(|_| number(&mut random)).collect::<Vec<_>>();
        let (a, b, c) = (elements(rows * depth), elements(depth * columns), elements(rows * columns));
        Case { sizes: Sizes { rows, columns, depth }, a, b, c }
    }

    /// Sum and sum of magnitudes of each element, in f64, by three plain loops.
    pub(super) fn truth(&self) -> Vec<(f64, f64)> {
        let Sizes { rows, columns, depth } = self.sizes;
        let element = |r: usize, c: usize| {
            let products = (0..depth).map(|k| f64::from(self.a[r * depth + k]) * f64::from(self.b[k * columns + c]));
            products.fold((0.0, 0.0), |(sum, magnitude), p| (sum + p, magnitude + p.abs()))
        };
        (0..rows * columns).map(|i| element(i / columns, i % columns)).collect()
    }

    pub(super) fn stored(&self, form: Form) -> (Stored, Stored) {
        let Sizes { rows, columns, depth } = self.sizes;
        (
            Stored::new(&self.a, (rows, depth), form.a_is_transposed, form.gap),
            Stored::new(&self.b, (depth, columns), form.b_is_transposed, form.gap),
        )
    }

    fn product(&self, path: Path, form: Form) -> Vec<f32> {
        let (a, b) = self.stored(form);
        let mut c = vec![f32::NAN; self.c.len()];
        gemm_by(path, a.matrix(), b.matrix(), Output::set(&mut c), false);
        c
    }

    /// The product without rounding operands.
    pub(super) fn product_in_f32(&self, form: Form, on_this_thread: bool) -> Vec<f32> {
        let (a, b) = self.stored(form);
        let mut c = vec![f32::NAN; self.c.len()];
        gemm_f32(a.rounded(), b.rounded(), Output::set(&mut c), on_this_thread);
        c
    }
}

/// A matrix as a test stores it, with NaN between the rows.
pub(super) struct Stored {
    narrow: Vec<bf16>,
    wide: Vec<f32>,
    rows: usize,
    columns: usize,
    stride: usize,
    is_transposed: bool,
}

impl Stored {
    fn new(elements: &[f32], (rows, columns): (usize, usize), is_transposed: bool, gap: usize) -> Self {
        let at = |r: usize, c: usize| if is_transposed { elements[c * columns + r] } else { elements[r * columns + c] };
        let (rows, columns) = if is_transposed { (columns, rows) } else { (rows, columns) };
        let stride = columns + gap;
        let wide: Vec<f32> = (0..rows * stride)
            .map(|i| if i % stride < columns { at(i / stride, i % stride) } else { f32::NAN })
            .collect();
        let narrow = wide.iter().map(|x| bf16::from_f32(*x)).collect();
        Stored { narrow, wide, rows, columns, stride, is_transposed }
    }

    fn matrix(&self) -> Matrix<'_> {
        self.oriented(Matrix::strided(&self.narrow, self.rows, self.columns, self.stride))
    }

    pub(super) fn rounded(&self) -> Matrix<'_> {
        self.oriented(Matrix::rounded_strided(&self.wide, self.rows, self.columns, self.stride))
    }

    fn oriented<'a>(&self, matrix: Matrix<'a>) -> Matrix<'a> {
        if self.is_transposed { matrix.transposed() } else { matrix }
    }
}

pub(super) fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}

pub(super) fn bits(elements: &[f32]) -> Vec<u32> {
    elements.iter().map(|x| x.to_bits()).collect()
}

pub(super) const SIZES: [(usize, usize, usize); 20] = [
    (1, 1, 1),
    (1, 1, 2),
    (2, 3, 5),
    (1, 64, 32),
    (3, 1, 64),
    (7, 33, 31),
    (16, 16, 32),
    (17, 65, 33),
    (31, 63, 63),
    (32, 32, 64),
    (33, 31, 65),
    (64, 64, 100),
    (95, 130, 97),
    (100, 7, 513),
    (129, 200, 255),
    (128, 96, 256),
    (61, 257, 1025),
    (257, 61, 514),
    (2, 700, 1200),
    (520, 20, 90),
];

/// Small integers, whose sums are exact in any order: a number too many, too few, or in the wrong place shows.
#[test]
fn every_path_and_form_sums_integers_exactly() {
    for size in SIZES {
        let case = Case::new(size, Random::small);
        let truth: Vec<f32> = case.truth().iter().map(|(sum, _)| *sum as f32).collect();
        let mode: Vec<f32> = truth.iter().zip(&case.c).map(|(sum, c)| sum + c).collect();
        for path in Path::available() {
            for form in FORMS {
                let what = format!("{} {size:?} {form:?}", path.name());
                assert_eq!(case.product(path, form), truth, "{what}");
                let (a, b) = case.stored(form);
                let mut c = case.c.clone();
                gemm_by(path, a.rounded(), b.rounded(), Output::add(&mut c), true);
                assert_eq!(c, mode, "{what}, f32 compute_dtype, added");
                let mut packed = PackedB::new();
                packed.pack_for(path, b.rounded());
                let mut c = case.c.clone();
                gemm_packed(a.matrix(), &packed, Output::add(&mut c));
                assert_eq!(c, mode, "{what}, packed, added");
            }
        }
    }
}

#[test]
fn every_path_errs_less_than_its_longest_chain_of_roundings_allows() {
    for size in [(40, 50, 16), (40, 50, 100), (65, 70, 1000), (33, 40, 4096)] {
        let case = Case::new(size, Random::uniform);
        let truth = case.truth();
        for path in Path::available() {
            let rounding = path.summation_depth(size.2) as f64 * 2f64.powi(-24);
            for (i, (c, (sum, magnitude))) in case.product(path, NT).iter().zip(&truth).enumerate() {
                let error = (f64::from(*c) - sum).abs();
                let bound = rounding / (1.0 - rounding) * magnitude;
                assert!(error <= bound, "{} {size:?} element {i}: off by {error:e}, allowed {bound:e}", path.name());
            }
        }
    }
}

#[test]
fn threads_packing_and_output_type_change_no_bits() {
    for size in [(150, 140, 700), (700, 300, 256), (64, 1000, 1100)] {
        let case = Case::new(size, Random::uniform);
        for path in Path::available() {
            for form in [NT, NN, TN] {
                let what = format!("{} {size:?} {form:?}", path.name());
                let single = with_threads(1, || case.product(path, form));
                for threads in [2, 3, 7] {
                    let several = with_threads(threads, || case.product(path, form));
                    assert_eq!(bits(&several), bits(&single), "{what} on {threads} threads");
                }
                let (a, b) = case.stored(form);
                let mut packed = PackedB::new();
                packed.pack_for(path, b.matrix());
                let mut c = vec![0.0; single.len()];
                gemm_packed_on_this_thread(a.rounded(), &packed, Output::set(&mut c));
                assert_eq!(bits(&c), bits(&single), "{what} packed");
                let mut c = vec![bf16::ZERO; single.len()];
                gemm_packed(a.matrix(), &packed, Output::bf16(&mut c));
                let rounded: Vec<bf16> = single.iter().map(|x| bf16::from_f32(*x)).collect();
                assert_eq!(c, rounded, "{what} to bf16");
            }
        }
    }
}

#[test]
fn paths_that_multiply_in_f32_give_the_same_bits() {
    let case = Case::new((70, 90, 600), Random::uniform);
    let portable = case.product(Path::Portable, NT);
    for path in [Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_available()) {
        assert_eq!(bits(&case.product(path, NT)), bits(&portable), "{}", path.name());
    }
}

#[test]
fn rows_apart_leave_what_lies_between_them() {
    let case = Case::new((37, 41, 50), Random::small);
    let (a, b) = case.stored(NN);
    for path in Path::available() {
        let mut c = vec![f32::MAX; 37 * 50];
        gemm_by(path, a.matrix(), b.matrix(), Output::set(&mut c).with_stride(50), false);
        let mut narrow = vec![bf16::MAX; 37 * 50];
        gemm_by(path, a.matrix(), b.matrix(), Output::bf16(&mut narrow).with_stride(50), false);
        for (i, (sum, _)) in case.truth().iter().enumerate() {
            let place = i / 41 * 50 + i % 41;
            assert_eq!(f64::from(c[place]), *sum, "{}", path.name());
            assert_eq!(narrow[place], bf16::from_f64(*sum), "{}", path.name());
        }
        let between = (0..c.len()).filter(|i| i % 50 >= 41);
        assert!(between.clone().all(|i| c[i] == f32::MAX), "{}", path.name());
        assert!(between.clone().all(|i| narrow[i] == bf16::MAX), "{}", path.name());
    }
}

#[test]
fn an_empty_sum_is_zero_and_empty_outputs_are_left_alone() {
    for path in Path::available() {
        let mut c = vec![1f32; 6];
        gemm_by(path, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), Output::add(&mut c), false);
        assert_eq!(c, [1.0; 6]);
        gemm_by(path, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), Output::set(&mut c), false);
        assert_eq!(c, [0.0; 6]);
        gemm_by(path, Matrix::new(&[], 0, 4), Matrix::new(&[bf16::ONE; 12], 4, 3), Output::set(&mut c), false);
        assert_eq!(c, [0.0; 6]);
        let mut packed = PackedB::new();
        packed.pack_for(path, Matrix::new(&[], 0, 3));
        c.fill(2.0);
        gemm_packed(Matrix::new(&[], 2, 0), &packed, Output::set(&mut c));
        assert_eq!(c, [0.0; 6]);
    }
}

#[test]
fn infinities_and_nans_come_through_where_they_belong() {
    let mut a = vec![bf16::ONE; 40 * 70];
    (a[3 * 70 + 5], a[7 * 70 + 69]) = (bf16::INFINITY, bf16::NAN);
    let b = vec![bf16::ONE; 70 * 50];
    for path in Path::available() {
        let mut c = vec![0f32; 40 * 50];
        gemm_by(path, Matrix::new(&a, 40, 70), Matrix::new(&b, 70, 50), Output::set(&mut c), false);
        for (row, c) in c.chunks(50).enumerate() {
            let holds = |c: &f32| match row {
                3 => *c == f32::INFINITY,
                7 => c.is_nan(),
                _ => *c == 70.0,
            };
            assert!(c.iter().all(holds), "{} row {row}: {c:?}", path.name());
        }
    }
}

#[test]
fn a_packed_matrix_keeps_its_memory_and_its_path() {
    let b: Vec<bf16> = (0..64 * 96).map(|i| bf16::from_f32((i % 7) as f32)).collect();
    for path in Path::available() {
        let mut packed = PackedB::new();
        packed.pack_for(path, Matrix::new(&b, 64, 96));
        let before = packed.elements().as_ptr();
        packed.pack_for(path, Matrix::new(&b, 96, 64).transposed());
        assert_eq!(packed.elements().as_ptr(), before);
        assert_eq!((packed.path(), packed.rows(), packed.columns()), (path, 64, 96));
    }
}

#[test]
fn conversions_agree_with_the_half_crate_on_every_bf16_and_around_every_tie() {
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let mut wide = vec![0f32; all.len()];
    widen(&all, &mut wide);
    let expected: Vec<u32> = (0..=u16::MAX).map(|bits| u32::from(bits) << 16).collect();
    assert_eq!(bits(&wide), expected);

    let endings = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let elements: Vec<f32> =
        expected.iter().flat_map(|high| endings.map(|low| f32::from_bits(high | low))).skip(1).collect();
    let expected: Vec<u16> = elements.iter().map(|x| bf16::from_f32(*x).to_bits()).collect();
    let check = |what: &str, to: &[bf16]| {
        let wrong = to.iter().zip(&expected).position(|(to, expected)| to.to_bits() != *expected);
        assert_eq!(wrong.map(|i| (elements[i], to[i])), None, "{what}");
    };
    let mut to = vec![bf16::ZERO; elements.len()];
    narrow(&elements, &mut to);
    check("the widest vectors", &to);
    elements.iter().zip(&mut to).for_each(|(from, to)| *to = portable::round(*from));
    check("portable", &to);
    #[cfg(target_arch = "x86_64")]
    if Path::Avx2.is_available() {
        let sums = kernel::Sums { from: elements.as_ptr(), stride: 0, rows: 1, columns: elements.len() };
        // SAFETY: AVX2 is there, and all slices are as long as the sizes say.
        unsafe {
            avx2::narrow(&sums, to.as_mut_ptr(), 0);
            avx2::widen(all.as_ptr(), all.len(), wide.as_mut_ptr());
        }
        check("AVX2", &to);
        assert!(wide.iter().zip(&all).all(|(wide, bits)| wide.to_bits() >> 16 == u32::from(bits.to_bits())));
    }
}

/// What the packers for pairs round: as above, but elements that a product reads as zero.
#[test]
#[cfg(target_arch = "x86_64")]
fn outputs_in_bf16_round_to_nearest_even_and_keep_nans() {
    if !Path::Avx512Bf16.is_available() {
        return println!("skipped: no AVX512-BF16 here");
    }
    let elements: Vec<f32> = (0..=u16::MAX)
        .flat_map(|high| [0u32, 0x7fff, 0x8000, 0x8001].map(|low| f32::from_bits(u32::from(high) << 16 | low)))
        .filter(|x| !x.is_subnormal())
        .collect();
    let mut to = vec![bf16::ZERO; elements.len()];
    let sums = kernel::Sums { from: elements.as_ptr(), stride: 0, rows: 1, columns: elements.len() };
    // SAFETY: AVX512-BF16 is there, and both slices are as long as the sizes say.
    unsafe { pairs::narrow(&sums, to.as_mut_ptr(), 0) };
    for (from, to) in elements.iter().zip(&to) {
        assert_eq!(to.to_bits(), bf16::from_f32(*from).to_bits(), "{from:e}");
    }
}

#[test]
fn the_path_can_be_named_and_an_absent_one_is_refused_with_the_choice_there_is() {
    assert!(Path::ALL.iter().any(|candidate| candidate.name() == path()));
    for absent in Path::ALL.into_iter().filter(|path| !path.is_available()) {
        let refusal = select(Some(absent)).expect_err("it isn't available").to_string();
        assert!(refusal.contains(absent.name()) && refusal.contains("portable"), "{refusal}");
    }
}

#[test]
#[should_panic(expected = "A's columns must be B's rows")]
fn sizes_that_do_not_fit_are_refused() {
    gemm(Matrix::new(&[bf16::ONE; 6], 2, 3), Matrix::new(&[bf16::ONE; 6], 2, 3), Output::set(&mut [0.0; 9]));
}

#[test]
#[should_panic(expected = "needs 9 elements, got 8")]
fn an_output_too_short_is_refused() {
    gemm(Matrix::new(&[bf16::ONE; 3], 3, 1), Matrix::new(&[bf16::ONE; 3], 1, 3), Output::set(&mut [0.0; 8]));
}
