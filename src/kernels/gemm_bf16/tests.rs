use half::bf16;

use super::*;

/// The paths this machine can run, the plainest first.
pub(super) fn available() -> impl Iterator<Item = Path> {
    let all = [Path::Portable, Path::Avx2, Path::Avx512, Path::Avx512Bf16, Path::Amx];
    all.into_iter().filter(|path| path.is_available())
}

/// How many roundings, at most, a sum over `k` products goes through on the way to an output element, one for each f32
/// addition in the longest chain. With `u = 2^-24` the error of an element is at most about `depth · u · Σ|a||b|` (Higham
/// 2002, section 4.2), because products of two bf16 are exact in f32.
fn summation_depth(path: Path, k: usize) -> usize {
    match path {
        // For each 32 indices two chains of 16, their sum, and one addition to the accumulator.
        Path::Amx => 16 + k.div_ceil(32),
        // One chain over k, whatever the lanes: they hold different elements.
        _ => k,
    }
}

/// The elements of one product, with C's old elements.
pub(super) struct Case {
    /// Rows, columns and depth.
    size: (usize, usize, usize),
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
    /// Elements that bf16 holds exactly.
    fn new(size: (usize, usize, usize), number: impl Fn(&mut Random) -> f32) -> Self {
        let case = Self::unrounded(size, number);
        let round = |elements: Vec<f32>| elements.into_iter().map(|x| bf16::from_f32(x).to_f32()).collect();
        Case { a: round(case.a), b: round(case.b), ..case }
    }

    /// Any elements.
    pub(super) fn unrounded(size: (usize, usize, usize), number: impl Fn(&mut Random) -> f32) -> Self {
        let (rows, columns, depth) = size;
        let mut random = Random::new((rows * 7919 + columns * 104_729 + depth) as u64);
        let mut elements = |len: usize| (0..len).map(|_| number(&mut random)).collect::<Vec<_>>();
        let (a, b, c) = (elements(rows * depth), elements(depth * columns), elements(rows * columns));
        Case { size, a, b, c }
    }

    /// Sum and sum of magnitudes of each element, in f64, by three plain loops.
    pub(super) fn truth(&self) -> Vec<(f64, f64)> {
        let (rows, columns, depth) = self.size;
        let element = |r: usize, c: usize| {
            let products = (0..depth).map(|k| f64::from(self.a[r * depth + k]) * f64::from(self.b[k * columns + c]));
            products.fold((0.0, 0.0), |(sum, magnitude), p| (sum + p, magnitude + p.abs()))
        };
        (0..rows * columns).map(|i| element(i / columns, i % columns)).collect()
    }

    pub(super) fn stored(&self, form: Form) -> (Stored, Stored) {
        let (rows, columns, depth) = self.size;
        (
            Stored::new(&self.a, (rows, depth), form.a_is_transposed, form.gap),
            Stored::new(&self.b, (depth, columns), form.b_is_transposed, form.gap),
        )
    }

    fn product(&self, path: Path, form: Form) -> Vec<f32> {
        let (a, b) = self.stored(form);
        let mut c = vec![f32::NAN; self.c.len()];
        of_f32(path, a.matrix(), b.matrix(), &mut c, WriteMode::Overwrite, Threads::Pool);
        c
    }

    /// The product without rounding operands.
    pub(super) fn product_in_f32(&self, form: Form, threads: Threads) -> Vec<f32> {
        let (a, b) = self.stored(form);
        let mut c = vec![f32::NAN; self.c.len()];
        gemm_f32(a.matrix(), b.matrix(), &mut c, WriteMode::Overwrite, threads);
        c
    }
}

/// A matrix as a test stores it, with NaN between the rows.
pub(super) struct Stored {
    elements: Vec<f32>,
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
        let elements = (0..rows * stride)
            .map(|i| if i % stride < columns { at(i / stride, i % stride) } else { f32::NAN })
            .collect();
        Stored { elements, rows, columns, stride, is_transposed }
    }

    pub(super) fn matrix(&self) -> Matrix<'_, f32> {
        let matrix = Matrix::strided(&self.elements, self.rows, self.columns, self.stride);
        if self.is_transposed { matrix.transposed() } else { matrix }
    }
}

/// A product of operands and an output in f32.
fn of_f32(path: Path, a: Matrix<f32>, b: Matrix<f32>, c: &mut [f32], mode: WriteMode, threads: Threads) {
    gemm_by(path, Source::F32(a), Source::F32(b), Output::F32(c), mode, threads);
}

/// A matrix's elements in bf16, NaN between the rows included.
fn narrowed(stored: &Stored) -> Vec<bf16> {
    stored.elements.iter().map(|x| bf16::from_f32(*x)).collect()
}

/// The same matrix over its elements in bf16.
fn over<'a>(matrix: Matrix<'_, f32>, data: &'a [bf16]) -> Matrix<'a, bf16> {
    let Matrix { rows, columns, stride, is_transposed, .. } = matrix;
    Matrix { data, rows, columns, stride, is_transposed }
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
        let added: Vec<f32> = truth.iter().zip(&case.c).map(|(sum, c)| sum + c).collect();
        for path in available() {
            for form in FORMS {
                assert_eq!(case.product(path, form), truth, "{path:?} {size:?} {form:?}");
                let (a, b) = case.stored(form);
                let mut c = case.c.clone();
                of_f32(path, a.matrix(), b.matrix(), &mut c, WriteMode::Accumulate, Threads::One);
                assert_eq!(c, added, "{path:?} {size:?} {form:?}, accumulated");
            }
        }
    }
}

/// Operands that are kept in bf16 are those that would be rounded while they are packed, and an output in bf16 is the one in f32 rounded:
/// to the bit.
#[test]
fn elements_kept_in_bf16_are_multiplied_as_they_are_and_written_rounded() {
    for size in SIZES.into_iter().chain([(60, 70, 1030), (36, 64, 512)]) {
        let case = Case::new(size, Random::uniform);
        for (path, form) in available().flat_map(|path| FORMS.map(|form| (path, form))) {
            let wide = case.product(path, form);
            let (a, b) = case.stored(form);
            let (a_narrow, b_narrow) = (narrowed(&a), narrowed(&b));
            let (a_narrow, b_narrow) = (over(a.matrix(), &a_narrow), over(b.matrix(), &b_narrow));
            for (a_is_narrow, b_is_narrow) in [(true, true), (true, false), (false, true)] {
                let a = if a_is_narrow { Source::Bf16(a_narrow) } else { Source::F32(a.matrix()) };
                let b = if b_is_narrow { Source::Bf16(b_narrow) } else { Source::F32(b.matrix()) };
                let what = format!("{path:?} {size:?} {form:?} {a_is_narrow} {b_is_narrow}");
                let mut c = vec![f32::NAN; case.c.len()];
                gemm_by(path, a, b, Output::F32(&mut c), WriteMode::Overwrite, Threads::Pool);
                assert_eq!(bits(&c), bits(&wide), "{what}");
                let mut c: Vec<bf16> = case.c.iter().map(|c| bf16::from_f32(*c)).collect();
                let added = c.iter().zip(&wide).map(|(c, sum)| bf16::from_f32(c.to_f32() + sum));
                let added: Vec<bf16> = added.collect();
                gemm_by(path, a, b, Output::Bf16(&mut c), WriteMode::Accumulate, Threads::One);
                assert_eq!(c, added, "{what}, accumulated in bf16");
                gemm_by(path, a, b, Output::Bf16(&mut c), WriteMode::Overwrite, Threads::Pool);
                let rounded: Vec<bf16> = wide.iter().map(|sum| bf16::from_f32(*sum)).collect();
                assert_eq!(c, rounded, "{what}, in bf16");
            }
        }
    }
}

#[test]
fn every_path_errs_less_than_its_longest_chain_of_roundings_allows() {
    for size in [(40, 50, 16), (40, 50, 100), (65, 70, 1000), (33, 40, 4096)] {
        let case = Case::new(size, Random::uniform);
        let truth = case.truth();
        for path in available() {
            let rounding = summation_depth(path, size.2) as f64 * 2f64.powi(-24);
            for (i, (c, (sum, magnitude))) in case.product(path, NT).iter().zip(&truth).enumerate() {
                let error = (f64::from(*c) - sum).abs();
                let bound = rounding / (1.0 - rounding) * magnitude;
                assert!(error <= bound, "{path:?} {size:?} element {i}: off by {error:e}, allowed {bound:e}");
            }
        }
    }
}

#[test]
fn threads_change_no_bits() {
    for size in [(150, 140, 700), (700, 300, 256), (64, 1000, 1100)] {
        let case = Case::new(size, Random::uniform);
        for path in available() {
            for form in [NT, NN, TN] {
                let single = with_threads(1, || case.product(path, form));
                for threads in [2, 3, 7] {
                    let several = with_threads(threads, || case.product(path, form));
                    assert_eq!(bits(&several), bits(&single), "{path:?} {size:?} {form:?} on {threads} threads");
                }
            }
        }
    }
}

#[test]
fn paths_that_multiply_in_f32_give_the_same_bits() {
    let case = Case::new((70, 90, 600), Random::uniform);
    let portable = case.product(Path::Portable, NT);
    for path in [Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_available()) {
        assert_eq!(bits(&case.product(path, NT)), bits(&portable), "{path:?}");
    }
}

#[test]
fn an_empty_sum_is_zero_and_empty_outputs_are_left_alone() {
    for path in available() {
        let (two, three) = (Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3));
        let mut c = vec![1f32; 6];
        of_f32(path, two, three, &mut c, WriteMode::Accumulate, Threads::Pool);
        assert_eq!(c, [1.0; 6]);
        of_f32(path, two, three, &mut c, WriteMode::Overwrite, Threads::Pool);
        assert_eq!(c, [0.0; 6]);
        let b = [1.0; 12];
        of_f32(path, Matrix::new(&[], 0, 4), Matrix::new(&b, 4, 3), &mut c, WriteMode::Overwrite, Threads::Pool);
        assert_eq!(c, [0.0; 6]);
    }
}

#[test]
fn infinities_and_nans_come_through_where_they_belong() {
    let mut a = vec![1f32; 40 * 70];
    (a[3 * 70 + 5], a[7 * 70 + 69]) = (f32::INFINITY, f32::NAN);
    let b = vec![1f32; 70 * 50];
    for path in available() {
        let mut c = vec![0f32; 40 * 50];
        let (a, b) = (Matrix::new(&a, 40, 70), Matrix::new(&b, 70, 50));
        of_f32(path, a, b, &mut c, WriteMode::Overwrite, Threads::Pool);
        for (row, c) in c.chunks(50).enumerate() {
            let holds = |c: &f32| match row {
                3 => *c == f32::INFINITY,
                7 => c.is_nan(),
                _ => *c == 70.0,
            };
            assert!(c.iter().all(holds), "{path:?} row {row}: {c:?}");
        }
    }
}

/// Packing of either operand rounds as the half crate does, on every bf16 and around every tie. Denormals may be read as
/// zero.
#[test]
fn operands_are_rounded_to_nearest_even() {
    let elements: Vec<f32> = (0..=u32::from(u16::MAX))
        .flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| f32::from_bits(high << 16 | low)))
        .filter(|x| !x.is_subnormal())
        .collect();
    let (many, one) = (Matrix::new(&elements, elements.len(), 1), Matrix::new(&[1f32], 1, 1));
    for path in available() {
        let mut c = vec![0f32; elements.len()];
        let mut check = |what: &str, a: Matrix<f32>, b: Matrix<f32>| {
            of_f32(path, a, b, &mut c, WriteMode::Overwrite, Threads::Pool);
            for (from, to) in elements.iter().zip(&c) {
                let expected = bf16::from_f32(*from).to_f32();
                assert!(*to == expected || to.is_nan() && expected.is_nan(), "{path:?} {what}: {from:e} became {to:e}");
            }
        };
        check("rows of A", many, one);
        check("columns of A", Matrix::new(&elements, 1, elements.len()).transposed(), one);
        check("rows of B", one, Matrix::new(&elements, 1, elements.len()));
        check("columns of B", one, many.transposed());
    }
}

#[test]
#[should_panic(expected = "A's columns must be B's rows")]
fn sizes_that_do_not_fit_are_refused() {
    let matrix = Matrix::new(&[1.0; 6], 2, 3);
    of_f32(Path::chosen(), matrix, matrix, &mut [0.0; 9], WriteMode::Overwrite, Threads::One);
}

#[test]
#[should_panic(expected = "needs 9 elements, got 8")]
fn an_output_too_short_is_refused() {
    let matrix = Matrix::new(&[1.0; 3], 3, 1);
    of_f32(Path::chosen(), matrix, matrix.transposed(), &mut [0.0; 8], WriteMode::Overwrite, Threads::One);
}
