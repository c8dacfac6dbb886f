//! Kernels over elements that are kept in bf16 against themselves over the same elements in f32: what is rounded once is the rounded
//! result to the bit; what is rounded on the way, or rests on rounded operands of products, stays within that many roundings.

use half::bf16;

use super::gemm::ComputeDtype;
use super::rotary::{Angles, Heads};
use super::{Kind, Scratch, Stored, attention, embedding, head, norm, residual, rotary, smear, squared_relu, value};

const WIDTH: usize = 40;
const ROWS: usize = 70;

/// Elements that bf16 holds, between −1 and 1.
fn elements(count: usize, seed: u32) -> Vec<f32> {
    let uniform = |index: u32| ((index + 977 * seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..count as u32).map(|index| bf16::from_f32(uniform(index)).to_f32()).collect()
}

fn of<S: Stored<Element = f32>>(elements: &[f32]) -> Vec<S> {
    elements.iter().map(|element| S::store(*element)).collect()
}

fn wide<S: Stored<Element = f32>>(elements: &[S]) -> Vec<f32> {
    elements.iter().map(|element| element.load()).collect()
}

/// What some kernels give, by name: how often each is rounded, at most, and the elements.
type Results = Vec<(&'static str, u32, Vec<f32>)>;

/// Holds a kernel over bf16 against itself over f32. A result that is rounded several times is compared with the largest of its elements,
/// since terms may cancel.
fn compare(in_f32: Results, in_bf16: Results) {
    for ((what, roundings, expected), (_, _, found)) in in_f32.into_iter().zip(in_bf16) {
        let largest = expected.iter().fold(0f32, |largest, element| largest.max(element.abs()));
        for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
            if roundings == 1 {
                assert_eq!(bf16::from_f32(*expected).to_f32(), *found, "{what}, element {at}");
            } else {
                let bound = roundings as f32 * 2f32.powi(-9) * largest;
                assert!((expected - found).abs() <= bound, "{what}, element {at}: {found} for {expected}, {bound:e}");
            }
        }
        assert!(largest > 0.0, "{what} is all zeros");
    }
}

fn rows<S: Stored<Element = f32>>() -> Results {
    let count = ROWS * WIDTH;
    let [x, x0, dy] = [1, 2, 3].map(|seed| of::<S>(&elements(count, seed)));
    let zeros = || vec![S::default(); count];
    let (mut y, mut mixed, mut inverse) = (zeros(), zeros(), vec![0f32; ROWS]);
    norm::forward(&x, WIDTH, &mut y, &mut inverse);
    let mut results = vec![("norm", 1, wide(&y))];
    let mut dx = x0.clone();
    norm::backward_add(&dy, &of::<S>(&elements(count, 4)), &inverse, WIDTH, &mut dx);
    results.push(("gradient of the norm", 1, wide(&dx)));
    residual::mix(&x, &x0, [0.75, 0.25], WIDTH, &mut mixed, &mut y, &mut inverse);
    results.push(("mix", 1, wide(&mixed)));
    results.push(("norm of the mix", 4, wide(&y)));
    let (mut stream, mut dx0) = (of::<S>(&elements(count, 5)), of::<S>(&elements(count, 6)));
    let given = of::<S>(&elements(count, 7));
    let at = residual::Mixed { dnormed: &dy, normed: &given, inverse: &inverse, x: &x, x0: &x0, lambdas: [0.75, 0.25] };
    residual::mix_backward(at, WIDTH, &mut stream, &mut dx0);
    results.push(("gradient of the stream", 4, wide(&stream)));
    results.push(("gradient of the first stream", 4, wide(&dx0)));
    residual::backout(&x, &x0, 0.25, WIDTH, &mut y, &mut inverse);
    results.push(("backout", 4, wide(&y)));
    let at = residual::Backout { dnormed: &dy, normed: &given, inverse: &inverse, middle: &x0, lambda: 0.25 };
    let slope = residual::backout_backward(at, WIDTH, &mut stream, &mut mixed);
    results.push(("gradient through the backout", 4, wide(&stream)));
    results.push(("gradient of the middle", 4, wide(&mixed)));
    // Some thousand terms of either sign, each off by a rounding.
    results.push(("gradient of the backout's factor", 16, vec![slope as f32]));
    let (mut hidden, mut slopes) = (x.clone(), dy.clone());
    squared_relu::forward(&mut hidden, &mut y);
    results.push(("squared ReLU", 1, wide(&y)));
    squared_relu::backward(&hidden, &mut slopes, &mut y);
    results.push(("gradient of squared ReLU", 1, wide(&slopes)));
    let mut sum = x.clone();
    residual::add(&mut sum, &x0);
    results.push(("sum", 1, wide(&sum)));
    results
}

const HEADS: Heads = Heads { length: 35, count: 2, size: 20 };

fn heads<S: Stored<Element = f32>>() -> Results {
    let count = ROWS * WIDTH;
    let (cos, sin) = (elements(HEADS.length * 10, 8), elements(HEADS.length * 10, 9));
    let angles = Angles { cos: &cos, sin: &sin };
    let [x, dy, given] = [11, 12, 13].map(|seed| of::<S>(&elements(count, seed)));
    let (mut y, mut dx, mut inverse) = (x.clone(), x.clone(), vec![0f32; ROWS * HEADS.count]);
    rotary::forward(&x, angles, HEADS, &mut y, &mut inverse);
    let mut results = vec![("rotary", 4, wide(&y))];
    rotary::backward(&dy, &given, &inverse, angles, HEADS, &mut dx);
    results.push(("gradient of rotary", 4, wide(&dx)));
    let ids: Vec<u32> = (0..ROWS as u32).map(|token| token * 5 % 9).collect();
    let (table, gate) = (elements(9 * WIDTH, 14), elements(HEADS.count * 12, 15));
    let mix = value::Mix { ids: &ids, table: &table, gate: &gate, x: &x, width: WIDTH };
    let mut sigma = inverse.clone();
    value::forward_mixed(&given, mix, HEADS, &mut y, &mut sigma);
    results.push(("mixed values", 1, wide(&y)));
    let (mut embedded, mut gates) = (x.clone(), inverse.clone());
    value::backward_mixed(&dy, mix, &sigma, HEADS, &mut embedded, &mut gates, &mut dx);
    results.push(("gradient of value embeddings", 1, wide(&embedded)));
    value::forward(&given, HEADS, &mut y);
    results.push(("values by head", 1, wide(&y)));
    value::backward(&given, HEADS, &mut y);
    results.push(("values by token", 1, wide(&y)));
    let mut gathered = x.clone();
    embedding::gather(&elements(9 * WIDTH, 16), &ids, WIDTH, &mut gathered);
    results.push(("gathered", 1, wide(&gathered)));
    let smear = smear::Smear { length: HEADS.length, width: WIDTH, gate: &gate[..24], lambda: 0.5 };
    let mut sigma = vec![0f32; ROWS];
    smear::forward(&x, smear, &mut y, &mut sigma);
    results.push(("smear", 1, wide(&y)));
    let (mut dgate, mut slopes) = (vec![0f32; 24], vec![0f32; ROWS]);
    smear::backward(&dy, &x, smear, &sigma, &mut dx, &mut dgate, &mut slopes);
    results.push(("gradient of smeared embeddings", 4, wide(&dx)));
    results
}

fn products<S: Stored<Element = f32>>() -> Results {
    let shape = attention::Shape {
        rows: 2,
        length: 90,
        heads: 2,
        groups: 1,
        size: 16,
        window: 40,
        compute_dtype: ComputeDtype::Bf16,
    };
    let (queries, keys) = (2 * 90 * 2 * 16, 2 * 90 * 16);
    let (q, k, v) = (of::<S>(&elements(queries, 17)), of::<S>(&elements(keys, 18)), of::<S>(&elements(keys, 19)));
    let (inputs, mut out, mut lse) = (attention::Inputs { q: &q, k: &k, v: &v }, q.clone(), vec![0f32; 360]);
    let mut scratch = Scratch::default();
    scratch.reserve(shape.workspace_elements().max(50));
    attention::forward(shape, inputs, &mut out, &mut lse, &scratch);
    let mut results = vec![("attention", 1, wide(&out))];
    let (dout, delta) = (of::<S>(&elements(queries, 20)), elements(360, 21));
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let outputs = attention::Outputs { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    attention::backward(shape, inputs, attention::Saved { lse: &lse, dout: &dout, delta: &delta }, outputs, &scratch);
    results
        .extend([("queries", wide(&dq)), ("keys", wide(&dk)), ("values", wide(&dv))].map(|(name, of)| (name, 1, of)));
    let (x, weight) = (of::<S>(&elements(ROWS * WIDTH, 22)), elements(50 * WIDTH, 23));
    let targets: Vec<i32> = (0..ROWS as i32).map(|token| if token % 4 == 3 { -1 } else { token * 7 % 50 }).collect();
    let compute_dtype = ComputeDtype::Bf16;
    let at = head::Head { x: &x, weight: &weight, targets: &targets, width: WIDTH, vocab: 50, compute_dtype };
    let (mut dx, mut dweight) = (x.clone(), vec![0f32; weight.len()]);
    let (mut losses, mut logits) = (vec![0f32; ROWS], vec![S::default(); 64 * 50]);
    let gradients = head::HeadGradients { factor: 1.0, dx: &mut dx, dweight: &mut dweight };
    head::cross_entropy(at, Some(gradients), &mut losses, &mut logits, &scratch);
    results.push(("losses", 4, losses));
    results.push(("gradient of the head's input", 16, wide(&dx)));
    results.push(("gradient of the projection", 16, dweight));
    results
}

#[test]
fn elements_in_bf16_give_what_the_same_elements_in_f32_give() {
    assert_eq!((<f32 as Stored>::KIND, <bf16 as Stored>::KIND), (Kind::F32, Kind::Bf16));
    compare(rows::<f32>(), rows::<bf16>());
    compare(heads::<f32>(), heads::<bf16>());
    compare(products::<f32>(), products::<bf16>());
}
