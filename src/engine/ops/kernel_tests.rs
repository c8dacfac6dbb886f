//! Every kernel against its reference implementation in elementary operations: results and, by candle's `backward`, gradients, in f64; results
//! in f32 as well.

use candle_core::{DType, Device, Tensor, Var};

use crate::ops::Element;
use crate::ops::reference;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::{
    Scratch, attention, decode_attention, embedding, head, norm, ragged_attention, residual, rotary, smear,
    squared_relu, value,
};

/// Elements in −1 … 1 that look random and depend on the seed alone.
fn elements(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 * (-52f64).exp2() - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(values: &[f64], dims: &[usize]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn variable(values: &[f64], dims: &[usize]) -> Var {
    Var::from_tensor(&tensor(values, dims)).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The elements in another type.
fn of<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|value| T::of(*value)).collect()
}

#[track_caller]
fn assert_close<T: Element>(what: &str, ours: &[T], reference: &[f64], bound: f64) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let worst = ours.iter().zip(reference).fold(0.0, |worst: f64, (a, b)| worst.max((a.wide() - b).abs()));
    assert!(worst <= bound, "{what}: {worst:e}");
}

/// Gradients of the sum of `result` · `slopes` in the variables.
fn gradients(result: &Tensor, slopes: &[f64], variables: &[&Var]) -> Vec<Vec<f64>> {
    let store = (result * tensor(slopes, result.dims())).unwrap().sum_all().unwrap().backward().unwrap();
    variables.iter().map(|variable| values(store.get(variable).expect("a gradient"))).collect()
}

/// Bounds on differences in f64, and in f32.
const EXACT: f64 = 1e-12;
const ROUNDED: f64 = 2e-6;

#[test]
fn norm_and_its_gradient() {
    for (rows, width) in [(1, 1), (3, 5), (70, 33), (33, 64)] {
        let (x, dy) = (elements(rows * width, 1), elements(rows * width, 2));
        let variable = variable(&x, &[rows, width]);
        let reference = reference::rms_norm(&variable).unwrap();
        let dx = gradients(&reference, &dy, &[&variable]).remove(0);
        let (mut y, mut inverse) = (vec![0f64; rows * width], vec![0f64; rows]);
        norm::forward(&x, width, &mut y, &mut inverse);
        assert_close("norm", &y, &values(&reference), EXACT);
        let mut ours = vec![1f64; rows * width];
        norm::backward_add(&dy, &y, &inverse, width, &mut ours);
        let added: Vec<f64> = dx.iter().map(|value| value + 1.0).collect();
        assert_close("gradient of the norm", &ours, &added, 1e-9);
        let (mut y, mut inverse) = (vec![0f32; rows * width], vec![0f32; rows]);
        norm::forward(&of::<f32>(&x), width, &mut y, &mut inverse);
        assert_close("norm in f32", &y, &values(&reference), ROUNDED);
    }
}

#[test]
fn rotary_norm_and_scale_and_their_gradient() {
    for (rows, heads) in [
        (1, rotary::Heads { length: 1, count: 1, size: 2 }),
        (2, rotary::Heads { length: 37, count: 3, size: 10 }),
        (2, rotary::Heads { length: 9, count: 2, size: 32 }),
    ] {
        let rotary::Heads { length, count, size } = heads;
        let total = rows * length * count * size;
        let (x, dy) = (elements(total, 3), elements(total, 4));
        let (cos, sin) = reference::rotary_table(0, length, size, DType::F64, &Device::Cpu).unwrap();
        let variable = variable(&x, &[rows, length, count, size]);
        let reference = reference::rotary_norm_scale(&variable, &cos, &sin).unwrap().transpose(1, 2).unwrap();
        let dx = gradients(&reference, &dy, &[&variable]).remove(0);
        let (cos, sin) = (values(&cos), values(&sin));
        let angles = rotary::Angles { cos: &cos, sin: &sin };
        let (mut y, mut inverse) = (vec![0f64; total], vec![0f64; rows * length * count]);
        rotary::forward(&x, angles, heads, &mut y, &mut inverse);
        assert_close("queries", &y, &values(&reference), EXACT);
        let mut ours = vec![7f64; total];
        rotary::backward(&dy, &y, &inverse, angles, heads, &mut ours);
        assert_close("gradient of the queries", &ours, &dx, 1e-9);
        let (cos, sin) = (of::<f32>(&cos), of::<f32>(&sin));
        let (mut y, mut inverse) = (vec![0f32; total], vec![0f32; rows * length * count]);
        let angles = rotary::Angles { cos: &cos, sin: &sin };
        rotary::forward(&of::<f32>(&x), angles, heads, &mut y, &mut inverse);
        assert_close("queries in f32", &y, &values(&reference), ROUNDED);
    }
}

/// A row's keys and values cut at random places, its queries a suffix: what the whole row's attention gives them.
#[test]
fn ragged_attention() {
    // Heads, groups, channels, window; then rows as places where they are cut, the last its end, and how many queries.
    type Row = (&'static [usize], usize);
    let cases: [((usize, usize), usize, usize, &[Row]); 4] = [
        ((1, 1), 2, 1, &[(&[1], 1)]),
        ((4, 2), 6, 500, &[(&[3, 4, 130], 126), (&[20], 20), (&[7, 9], 1)]),
        ((2, 1), 4, 20, &[(&[30, 31, 60, 150], 90), (&[100, 101], 1)]),
        ((3, 3), 16, 0, &[(&[5, 9], 4), (&[1, 2, 3], 2)]),
    ];
    for ((heads, groups), size, window, rows) in cases {
        let shape = ragged_attention::Shape { heads, groups, size, window, compute_dtype: ComputeDtype::Full };
        let total: usize = rows.iter().map(|(_, queries)| queries).sum();
        let (mut q, mut expected) = (vec![0.0; heads * total * size], vec![0.0; heads * total * size]);
        let (mut stored, mut first) = (Vec::new(), 0);
        for (number, (cuts, queries)) in rows.iter().enumerate() {
            let length = cuts[cuts.len() - 1];
            let own = |heads: usize, what| elements(heads * length * size, 10 * number as u64 + what);
            let (all_q, k, v) = (own(heads, 1), own(groups, 2), own(groups, 3));
            let token_major = |x: &[f64], heads| tensor(x, &[1, heads, length, size]).transpose(1, 2).unwrap();
            let tensors = [token_major(&all_q, heads), token_major(&k, groups), token_major(&v, groups)];
            let reference =
                reference::attention(&tensors[0], &tensors[1], &tensors[2], window, ComputeDtype::Full).unwrap();
            let reference = values(&reference.transpose(1, 2).unwrap().contiguous().unwrap());
            for head in 0..heads {
                let from = (head * length + length - queries) * size..(head + 1) * length * size;
                let to = (head * total + first) * size..(head * total + first + queries) * size;
                q[to.clone()].copy_from_slice(&all_q[from.clone()]);
                expected[to].copy_from_slice(&reference[from]);
            }
            first += queries;
            stored.push((k, v, length));
        }
        let spans: Vec<ragged_attention::Span<'_, f64>> = (rows.iter().zip(&stored))
            .map(|((cuts, queries), (k, v, length))| {
                let starts = [0].into_iter().chain(cuts.iter().copied());
                let pieces = starts.zip(*cuts).map(|(start, end)| {
                    let (k, v) = (&k[start * size..], &v[start * size..]);
                    ragged_attention::Piece { k, v, stride: length * size, tokens: end - start }
                });
                let position = length - queries;
                ragged_attention::Span { queries: *queries, position, first: 0, pieces: pieces.collect() }
            })
            .collect();
        let mut scratch = Scratch::default();
        scratch.reserve(ragged_attention::workspace_elements(shape, &spans));
        let mut out = vec![7.0; q.len()];
        ragged_attention::forward(shape, &q, &spans, &mut out, &scratch);
        assert_close("ragged attention", &out, &expected, EXACT);
    }
}

/// The last query of rows whose keys and values lie in pieces, some of them before the window: what the whole row's
/// attention gives it, to the bit the same wherever the pieces are cut, on any number of threads.
#[test]
fn attention_while_decoding() {
    // Heads, groups, channels, window; then rows as places where they are cut, the last its end.
    type Case = ((usize, usize), usize, usize, &'static [&'static [usize]]);
    let cases: [Case; 4] = [
        ((1, 1), 2, 1, &[&[1], &[2, 5]]),
        ((4, 2), 36, 500, &[&[3, 4, 130], &[20], &[7, 9]]),
        ((2, 1), 64, 20, &[&[30, 31, 60, 150], &[100, 101], &[21]]),
        ((6, 3), 96, 300, &[&[256, 512, 600], &[1]]),
    ];
    for ((heads, groups), size, window, rows) in cases {
        let (mut q, mut expected, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        for (number, cuts) in rows.iter().enumerate() {
            let length = cuts[cuts.len() - 1];
            let own = |heads: usize, what| elements(heads * length * size, 10 * number as u64 + what);
            let (all_q, k, v) = (own(heads, 1), own(groups, 2), own(groups, 3));
            let token_major = |x: &[f64], heads| tensor(x, &[1, heads, length, size]).transpose(1, 2).unwrap();
            let tensors = [token_major(&all_q, heads), token_major(&k, groups), token_major(&v, groups)];
            let reference =
                reference::attention(&tensors[0], &tensors[1], &tensors[2], window, ComputeDtype::Full).unwrap();
            let last = |x: &Tensor| values(&x.narrow(1, length - 1, 1).unwrap().contiguous().unwrap());
            q.extend(last(&tensors[0]));
            expected.extend(last(&reference));
            stored.push((of::<f32>(&k), of::<f32>(&v), length));
        }
        let q = of::<f32>(&q);
        let shape = decode_attention::Shape { heads, groups, size };
        let take_up = |whole: bool, threads: usize| {
            let pieces: Vec<Vec<ragged_attention::Piece<'_, f32>>> = (rows.iter().zip(&stored))
                .map(|(cuts, (k, v, length))| {
                    let cuts = if whole { &cuts[cuts.len() - 1..] } else { *cuts };
                    let starts = [0].into_iter().chain(cuts.iter().copied());
                    let piece = |(start, end): (usize, &usize)| {
                        let (k, v) = (&k[start * size..], &v[start * size..]);
                        ragged_attention::Piece { k, v, stride: length * size, tokens: end - start }
                    };
                    starts.zip(cuts).map(piece).collect()
                })
                .collect();
            let row = |row: usize| {
                let length = stored[row].2;
                let skipped = (length - 1).saturating_sub(window);
                decode_attention::Seen { pieces: pieces[row].iter().copied(), skipped, seen: length - skipped }
            };
            let (longest, mut out) = (window.min(600) + 1, vec![7f32; q.len()]);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut scratch = Scratch::default();
                scratch.reserve(heads / groups * longest);
                decode_attention::forward(shape, &q, row, longest, &mut out, &scratch);
            });
            out
        };
        let out = take_up(false, 1);
        assert_close("attention while decoding", &out, &expected, ROUNDED);
        assert!(take_up(true, 1) == out && take_up(false, 3) == out, "{heads} heads of {size}");
    }
}

/// Attention of several shapes: blocks that are cut off, windows within and across blocks, groups.
fn attentions() -> Vec<attention::Shape> {
    let shape = |rows, length, (heads, groups), size, window| attention::Shape {
        rows,
        length,
        heads,
        groups,
        size,
        window,
        compute_dtype: ComputeDtype::Full,
    };
    vec![
        shape(1, 1, (1, 1), 2, 1),
        shape(2, 70, (2, 2), 8, 70),
        shape(1, 130, (4, 2), 6, 500),
        shape(2, 150, (2, 1), 4, 20),
        shape(1, 200, (3, 3), 16, 64),
        shape(1, 129, (2, 1), 4, 128),
        shape(1, 65, (1, 1), 4, 0),
    ]
}

#[test]
fn attention_and_its_gradients() {
    for shape in attentions() {
        let attention::Shape { rows, length, heads, groups, size, window, .. } = shape;
        let dims = |heads| [rows, heads, length, size];
        let total = |heads: usize| rows * heads * length * size;
        let (q, k, v) = (elements(total(heads), 5), elements(total(groups), 6), elements(total(groups), 7));
        let slopes = elements(total(heads), 8);
        let (q_var, k_var, v_var) =
            (variable(&q, &dims(heads)), variable(&k, &dims(groups)), variable(&v, &dims(groups)));
        let tokens = |var: &Var| var.transpose(1, 2).unwrap();
        let reference =
            reference::attention(&tokens(&q_var), &tokens(&k_var), &tokens(&v_var), window, ComputeDtype::Full)
                .unwrap();
        let expected = gradients(&reference, &slopes, &[&q_var, &k_var, &v_var]);
        let mut scratch = Scratch::default();
        scratch.reserve(shape.workspace_elements());
        let (mut out, mut lse) = (vec![0f64; total(heads)], vec![0f64; rows * heads * length]);
        let inputs = attention::Inputs { q: &q, k: &k, v: &v };
        attention::forward(shape, inputs, &mut out, &mut lse, &scratch);
        let mut by_token = vec![0f64; total(heads)];
        attention::to_tokens(&out, shape, &mut by_token);
        assert_close(&format!("attention {shape:?}"), &by_token, &values(&reference), EXACT);
        let (mut dout, mut delta) = (vec![0f64; total(heads)], vec![0f64; rows * heads * length]);
        attention::prepare_backward(&slopes, &by_token, shape, &mut dout, &mut delta);
        let (mut dq, mut dk, mut dv) = (vec![9f64; total(heads)], vec![9f64; total(groups)], vec![9f64; total(groups)]);
        let saved = attention::Saved { lse: &lse, dout: &dout, delta: &delta };
        let outputs = attention::Outputs { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        attention::backward(shape, inputs, saved, outputs, &scratch);
        for (what, (ours, reference)) in ["q", "k", "v"].iter().zip([&dq, &dk, &dv].into_iter().zip(&expected)) {
            assert_close(&format!("gradient of {what}, {shape:?}"), ours, reference, EXACT);
        }
        let mut scratch = Scratch::default();
        scratch.reserve(shape.workspace_elements());
        let (mut out, mut lse) = (vec![0f32; total(heads)], vec![0f32; rows * heads * length]);
        let (q, k, v) = (of::<f32>(&q), of::<f32>(&k), of::<f32>(&v));
        attention::forward(shape, attention::Inputs { q: &q, k: &k, v: &v }, &mut out, &mut lse, &scratch);
        let mut by_token = vec![0f32; total(heads)];
        attention::to_tokens(&out, shape, &mut by_token);
        assert_close(&format!("attention in f32 {shape:?}"), &by_token, &values(&reference), ROUNDED);
    }
}

#[test]
fn values_with_their_gated_embedding_and_its_gradients() {
    let (rows, vocab, width, channels) = (2, 11, 30, 5);
    let heads = rotary::Heads { length: 37, count: 3, size: 4 };
    let (tokens, kv) = (rows * heads.length, heads.width());
    let ids: Vec<u32> = elements(tokens, 9).iter().map(|value| ((value + 1.0) * 0.49 * vocab as f64) as u32).collect();
    let (v, table, gate) = (elements(tokens * kv, 10), elements(vocab * kv, 11), elements(3 * channels, 12));
    let (x, dy) = (elements(tokens * width, 13), elements(tokens * kv, 14));
    let (v_var, table_var) = (variable(&v, &[rows, heads.length, 3, 4]), variable(&table, &[vocab, kv]));
    let (gate_var, x_var) = (variable(&gate, &[3, channels]), variable(&x, &[rows, heads.length, width]));
    let id_tensor = Tensor::from_vec(ids.clone(), (rows, heads.length), &Device::Cpu).unwrap();
    let extra = reference::embedding(&table_var, &id_tensor).unwrap().reshape((rows, heads.length, 3, 4)).unwrap();
    let reference = reference::add_value_embedding(&v_var, &extra, &x_var, &gate_var).unwrap().transpose(1, 2).unwrap();
    let expected = gradients(&reference, &dy, &[&v_var, &table_var, &gate_var, &x_var]);
    let mix = value::Mix { ids: &ids, table: &table, gate: &gate, x: &x, width };
    let (mut y, mut sigma) = (vec![0f64; tokens * kv], vec![0f64; tokens * 3]);
    value::forward_mixed(&v, mix, heads, &mut y, &mut sigma);
    assert_close("values", &y, &values(&reference), EXACT);
    let (mut dv, mut embedded, mut gates) = (vec![0f64; tokens * kv], vec![0f64; tokens * kv], vec![0f64; tokens * 3]);
    let mut dx = vec![0f64; tokens * width];
    value::backward(&dy, heads, &mut dv);
    assert_close("gradient of the values", &dv, &expected[0], EXACT);
    value::backward_mixed(&dy, mix, &sigma, heads, &mut embedded, &mut gates, &mut dx);
    let mut dtable = vec![0f64; vocab * kv];
    embedding::scatter_add(&embedded, &ids, kv, &mut dtable);
    assert_close("gradient of the embedding", &dtable, &expected[1], EXACT);
    let mut dgate = vec![0f64; 3 * channels];
    for (slopes, x) in gates.chunks(3).zip(x.chunks(width)) {
        for (dgate, slope) in dgate.chunks_mut(channels).zip(slopes) {
            dgate.iter_mut().zip(x).for_each(|(dgate, x)| *dgate += slope * x);
        }
    }
    assert_close("gradient of the gate", &dgate, &expected[2], EXACT);
    assert_close("gradient of the gate's input", &dx, &expected[3], EXACT);
    value::forward(&v, heads, &mut y);
    assert_close("values alone", &y, &values(&v_var.transpose(1, 2).unwrap()), 0.0);
}

#[test]
fn embeddings_are_gathered_and_their_gradients_added() {
    for (vocab, width, count) in [(1, 1, 1), (70, 3, 200), (64, 5, 40)] {
        let table = elements(vocab * width, 15);
        let ids: Vec<u32> =
            elements(count, 16).iter().map(|value| ((value + 1.0) * 0.49 * vocab as f64) as u32).collect();
        let variable = variable(&table, &[vocab, width]);
        let reference =
            reference::embedding(&variable, &Tensor::from_vec(ids.clone(), (1, count), &Device::Cpu).unwrap()).unwrap();
        let slopes = elements(count * width, 17);
        let expected = gradients(&reference, &slopes, &[&variable]).remove(0);
        let mut rows = vec![0f64; count * width];
        embedding::gather(&table, &ids, width, &mut rows);
        assert_close("rows", &rows, &values(&reference), 0.0);
        let mut ours = vec![0f64; vocab * width];
        embedding::scatter_add(&slopes, &ids, width, &mut ours);
        assert_close("gradient of the table", &ours, &expected, EXACT);
    }
}

#[test]
fn smear_and_its_gradients() {
    for (rows, length, width, channels) in [(1, 1, 4, 3), (2, 40, 7, 5), (3, 2, 24, 24)] {
        let total = rows * length * width;
        let (e, gate, dx) = (elements(total, 18), elements(channels, 19), elements(total, 20));
        let (e_var, gate_var) = (variable(&e, &[rows, length, width]), variable(&gate, &[1, channels]));
        let lambda_var = variable(&[0.7], &[1]);
        let reference = reference::smear(&e_var, None, &gate_var, &lambda_var).unwrap();
        let at = smear::Smear { length, width, gate: &gate, lambda: 0.7 };
        let (mut x, mut sigma) = (vec![0f64; total], vec![0f64; rows * length]);
        smear::forward(&e, at, &mut x, &mut sigma);
        assert_close("smear", &x, &values(&reference), EXACT);
        let (mut de, mut dgate, mut slopes) = (vec![0f64; total], vec![0f64; channels], vec![0f64; rows * length]);
        let dlambda = smear::backward(&dx, &e, at, &sigma, &mut de, &mut dgate, &mut slopes);
        if length == 1 {
            assert_close("gradient of a lone token", &de, &dx, 0.0);
            continue;
        }
        let expected = gradients(&reference, &dx, &[&e_var, &gate_var, &lambda_var]);
        assert_close("gradient of the embeddings", &de, &expected[0], EXACT);
        assert_close("gradient of the gate", &dgate, &expected[1], EXACT);
        assert_close("gradient of lambda", &[dlambda], &expected[2], EXACT);
    }
}

#[test]
fn residual_mix_and_its_gradients() {
    for (rows, width) in [(1, 1), (70, 33)] {
        let total = rows * width;
        let (x, x0, through, beside) =
            (elements(total, 21), elements(total, 22), elements(total, 23), elements(total, 24));
        let (x_var, x0_var) = (variable(&x, &[rows, width]), variable(&x0, &[rows, width]));
        let lambdas = [variable(&[0.9], &[1]), variable(&[0.3], &[1])];
        let mixed_twin = reference::residual_mix(&x_var, &x0_var, &lambdas[0], &lambdas[1]).unwrap();
        let normed_twin = reference::rms_norm(&mixed_twin).unwrap();
        let both = Tensor::cat(&[&mixed_twin, &normed_twin], 0).unwrap();
        let slopes = [beside.clone(), through.clone()].concat();
        let expected = gradients(&both, &slopes, &[&x_var, &x0_var, &lambdas[0], &lambdas[1]]);
        let (mut mixed, mut normed, mut inverse) = (vec![0f64; total], vec![0f64; total], vec![0f64; rows]);
        residual::mix(&x, &x0, [0.9, 0.3], width, &mut mixed, &mut normed, &mut inverse);
        assert_close("mix", &mixed, &values(&mixed_twin), EXACT);
        assert_close("its norm", &normed, &values(&normed_twin), EXACT);
        let at = residual::Mixed {
            dnormed: &through,
            normed: &normed,
            inverse: &inverse,
            x: &x,
            x0: &x0,
            lambdas: [0.9, 0.3],
        };
        let (mut stream, mut dx0) = (beside, vec![0f64; total]);
        let slopes = residual::mix_backward(at, width, &mut stream, &mut dx0);
        assert_close("gradient of the stream", &stream, &expected[0], 1e-9);
        assert_close("gradient of the embeddings", &dx0, &expected[1], 1e-9);
        assert_close("gradient of the factors", &slopes, &[expected[2][0], expected[3][0]], 1e-9);
    }
}

#[test]
fn backout_and_its_gradients() {
    let (rows, width) = (70, 33);
    let total = rows * width;
    let (x, middle, dnormed) = (elements(total, 25), elements(total, 26), elements(total, 27));
    let (x_var, middle_var) = (variable(&x, &[rows, width]), variable(&middle, &[rows, width]));
    let lambda_var = variable(&[0.2], &[1]);
    let reference = (x_var.as_tensor() - middle_var.broadcast_mul(&lambda_var).unwrap()).unwrap();
    let reference = reference::rms_norm(&reference).unwrap();
    let expected = gradients(&reference, &dnormed, &[&x_var, &middle_var, &lambda_var]);
    let (mut normed, mut inverse) = (vec![0f64; total], vec![0f64; rows]);
    residual::backout(&x, &middle, 0.2, width, &mut normed, &mut inverse);
    assert_close("backout", &normed, &values(&reference), EXACT);
    let at = residual::Backout { dnormed: &dnormed, normed: &normed, inverse: &inverse, middle: &middle, lambda: 0.2 };
    let (mut stream, mut dmiddle) = (vec![0f64; total], vec![0f64; total]);
    let slope = residual::backout_backward(at, width, &mut stream, &mut dmiddle);
    assert_close("gradient of the stream", &stream, &expected[0], EXACT);
    assert_close("gradient of the middle layer", &dmiddle, &expected[1], EXACT);
    assert_close("gradient of lambda", &[slope], &expected[2], EXACT);
    residual::add(&mut stream, &dmiddle);
    let sum: Vec<f64> = expected[0].iter().zip(&expected[1]).map(|(a, b)| a + b).collect();
    assert_close("sum", &stream, &sum, EXACT);
}

#[test]
fn squared_relu_and_its_gradient() {
    let (x, dy) = (elements(1000, 28), elements(1000, 29));
    let variable = variable(&x, &[1000]);
    let reference = reference::squared_relu(&variable).unwrap();
    let expected = gradients(&reference, &dy, &[&variable]).remove(0);
    let (mut cut, mut y) = (x.clone(), vec![0f64; 1000]);
    squared_relu::forward(&mut cut, &mut y);
    assert_close("squared ReLU", &y, &values(&reference), EXACT);
    let (mut dx, mut again) = (dy, vec![0f64; 1000]);
    squared_relu::backward(&cut, &mut dx, &mut again);
    assert_close("gradient of squared ReLU", &dx, &expected, EXACT);
    assert_eq!(y, again);
}

#[test]
fn the_heads_losses_and_gradients() {
    // A chunk has 64 tokens at least: the last case has two chunks, the second one cut off.
    for (tokens, vocab, padded, width) in [(1, 2, 2, 3), (5, 50, 64, 8), (70, 40_000, 40_064, 4)] {
        let (x, weight) = (elements(tokens * width, 30), elements(padded * width, 31));
        let weight: Vec<f64> = weight.iter().map(|value| 10.0 * value).collect();
        let targets: Vec<i32> =
            (0..tokens as i32).map(|token| if token % 4 == 3 { -1 } else { token * 7 % vocab as i32 }).collect();
        let (x_var, weight_var) = (variable(&x, &[tokens, width]), variable(&weight, &[padded, width]));
        let logits = reference::linear(&x_var, &weight_var, ComputeDtype::Full)
            .unwrap()
            .narrow(1, 0, vocab)
            .unwrap()
            .contiguous()
            .unwrap();
        let capped = reference::soft_cap(&logits).unwrap();
        let picked = Tensor::from_iter(targets.iter().map(|target| i64::from(*target).max(0)), &Device::Cpu).unwrap();
        let counted: Vec<f64> = targets.iter().map(|target| f64::from(u8::from(*target >= 0))).collect();
        let reference = (reference::cross_entropy(&capped, &picked).unwrap() * tensor(&counted, &[tokens])).unwrap();
        let expected = gradients(&reference, &vec![0.3; tokens], &[&x_var, &weight_var]);
        let rows = head::chunk_rows(vocab).min(tokens);
        let at =
            head::Head { x: &x, weight: &weight, targets: &targets, width, vocab, compute_dtype: ComputeDtype::Full };
        let (mut losses, mut logits) = (vec![0f64; tokens], vec![0f64; rows * vocab]);
        let mut scratch = Scratch::default();
        scratch.reserve(vocab);
        head::cross_entropy(at, None, &mut losses, &mut logits, &scratch);
        assert_close("losses", &losses, &values(&reference), EXACT);
        let (mut dx, mut dweight) = (vec![5f64; tokens * width], vec![1f64; padded * width]);
        let wanted = head::HeadGradients { factor: 0.3, dx: &mut dx, dweight: &mut dweight };
        head::cross_entropy(at, Some(wanted), &mut losses, &mut logits, &scratch);
        assert_close("losses with gradients", &losses, &values(&reference), EXACT);
        assert_close("gradient of the stream", &dx, &expected[0], EXACT);
        let added: Vec<f64> = expected[1].iter().map(|value| value + 1.0).collect();
        assert_close("gradient of the projection", &dweight, &added, EXACT);
        let mut all = vec![0f64; tokens * vocab];
        head::capped(at, &mut all);
        assert_close("logits", &all, &values(&capped), EXACT);
        let at = head::Head {
            x: &of::<f32>(&x),
            weight: &of::<f32>(&weight),
            targets: &targets,
            width,
            vocab,
            compute_dtype: ComputeDtype::Full,
        };
        let (mut losses, mut logits) = (vec![0f32; tokens], vec![0f32; rows * vocab]);
        let mut scratch = Scratch::default();
        scratch.reserve(vocab);
        head::cross_entropy(at, None, &mut losses, &mut logits, &scratch);
        assert_close("losses in f32", &losses, &values(&reference), 2e-5);
    }
}
