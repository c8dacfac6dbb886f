//! A layer's attention and MLP, forward and backward. Queries, keys and values lie one after the other, each head-major.

use nanochat_kernels::gemm::{self, ComputeDtype, Threads, multiply};
use nanochat_kernels::{Stored, attention, rotary, squared_relu, value};
use nanochat_plan::shape::VALUE_GATE_CHANNELS;

use super::{Cpu, of_heads};
use crate::ops::{
    Attention, Matrix, QueryKeyValue, QueryKeyValueGradients, Region, ValueMix, ValueMixGradients, WriteMode,
};

/// Elements of queries, keys and values of so many tokens.
fn sizes(layer: &QueryKeyValue, tokens: usize) -> [usize; 3] {
    let [queries, keys] = [layer.queries, layer.keys].map(|heads| tokens * heads.count * heads.size);
    [queries, keys, keys]
}

impl<S: Stored> Cpu<S> {
    /// The workspace takes queries, keys and values token-major.
    pub(super) fn query_key_value(&mut self, layer: &QueryKeyValue, workspace: Region) {
        let tokens = layer.x.len / layer.width;
        let parts = workspace.carve(sizes(layer, tokens));
        for (weight, part) in layer.weights.iter().zip(parts) {
            let x = Matrix::new(layer.x, tokens, layer.width);
            self.product(x, weight.transposed(), part, WriteMode::Overwrite);
        }
        let [query, key, value] = layer.qkv.carve(sizes(layer, tokens));
        let [q, k, v] = parts;
        let turned = [(q, query, layer.queries, layer.inverses[0]), (k, key, layer.keys, layer.inverses[1])];
        for (x, out, heads, inverse) in turned {
            let [cos, sin] = layer.angles;
            let ([out], [x]) = self.activations.split([out], [x]);
            let ([inverse], [cos, sin]) = self.memory.split([inverse], [cos, sin]);
            rotary::forward(x, rotary::Angles { cos, sin }, of_heads(heads), out, inverse);
        }
        let heads = of_heads(layer.keys);
        if let Some(ValueMix { table, gate, sigma }) = layer.mix {
            let ([out], [v, x]) = self.activations.split([value], [v, layer.x]);
            let ([sigma], [table, gate]) = self.memory.split([sigma], [table, gate]);
            let mix = value::Mix { ids: bytemuck::cast_slice(&self.ids), table, gate, x, width: layer.width };
            value::forward_mixed(v, mix, heads, out, sigma);
        } else {
            let ([out], [v]) = self.activations.split([value], [v]);
            value::forward(v, heads, out);
        }
    }

    /// The workspace takes the result head-major.
    pub(super) fn attend(&mut self, attention: Attention, qkv: Region, workspace: Region, [out, log_sum]: [Region; 2]) {
        let shape = self.shape(attention);
        self.scratch.reserve(shape.workspace_elements());
        let ([attended], [q, k, v]) = self.activations.split([workspace], qkv.carve(attention.elements()));
        let log_sum = self.memory.write(log_sum);
        attention::forward(shape, attention::Inputs { q, k, v }, attended, log_sum, &self.scratch);
        let ([out], [attended]) = self.activations.split([out], [workspace]);
        attention::to_tokens(attended, shape, out);
    }

    /// The workspace takes the squares.
    pub(super) fn mlp_output(&mut self, hidden: Region, weight: Matrix, workspace: Region, out: Region) {
        let ([x, squares], []) = self.activations.split([hidden, workspace], []);
        squared_relu::forward(x, squares);
        let tokens = hidden.len / weight.columns;
        let squares = Matrix::new(workspace, tokens, weight.columns);
        self.product(squares, weight.transposed(), out, WriteMode::Accumulate);
    }

    /// The workspace takes the squares again.
    pub(super) fn mlp_output_backward(
        &mut self,
        [dout, hidden]: [Region; 2],
        weight: Matrix,
        dhidden: Region,
        workspace: Region,
        dweight: Region,
    ) {
        let tokens = hidden.len / weight.columns;
        let dout = Matrix::new(dout, tokens, weight.rows);
        self.product(dout, weight, dhidden, WriteMode::Overwrite);
        let ([gradient, squares], [x]) = self.activations.split([dhidden, workspace], [hidden]);
        squared_relu::backward(x, gradient, squares);
        let squares = Matrix::new(workspace, tokens, weight.columns);
        self.product(dout.transposed(), squares, dweight, WriteMode::Accumulate);
    }

    /// The first workspace takes the gradient of the result head-major.
    pub(super) fn attend_backward(
        &mut self,
        attention: Attention,
        [qkv, attended, log_sum]: [Region; 3],
        dattended: Region,
        workspaces: [Region; 2],
        dqkv: Region,
    ) {
        let shape = self.shape(attention);
        self.scratch.reserve(shape.workspace_elements());
        let [workspace, delta] = workspaces;
        let ([dout], [dattended, attended]) = self.activations.split([workspace], [dattended, attended]);
        attention::prepare_backward(dattended, attended, shape, dout, self.memory.write(delta));
        let [q, k, v] = qkv.carve(attention.elements());
        let ([dq, dk, dv], [q, k, v, dout]) =
            self.activations.split(dqkv.carve(attention.elements()), [q, k, v, workspace]);
        let (lse, delta) = (self.memory.read(log_sum), self.memory.read(delta));
        let (inputs, saved) = (attention::Inputs { q, k, v }, attention::Saved { lse, dout, delta });
        attention::backward(shape, inputs, saved, attention::Outputs { dq, dk, dv }, &self.scratch);
    }

    /// The workspace takes gradients token-major, and then those of the value embedding's rows.
    pub(super) fn query_key_value_backward(
        &mut self,
        layer: &QueryKeyValue,
        dqkv: Region,
        workspace: Region,
        gradients: &QueryKeyValueGradients,
    ) {
        let tokens = layer.x.len / layer.width;
        let [query, key, _] = layer.qkv.carve(sizes(layer, tokens));
        let [dq, dk, dv] = dqkv.carve(sizes(layer, tokens));
        let parts = workspace.carve(sizes(layer, tokens));
        let turned = [
            (dq, query, layer.queries, layer.inverses[0], parts[0]),
            (dk, key, layer.keys, layer.inverses[1], parts[1]),
        ];
        for (dy, y, heads, inverse, dx) in turned {
            let [cos, sin] = layer.angles;
            let ([dx], [dy, y]) = self.activations.split([dx], [dy, y]);
            let angles = rotary::Angles { cos: self.memory.read(cos), sin: self.memory.read(sin) };
            rotary::backward(dy, y, self.memory.read(inverse), angles, of_heads(heads), dx);
        }
        let ([dv_tokens], [dv_heads]) = self.activations.split([parts[2]], [dv]);
        value::backward(dv_heads, of_heads(layer.keys), dv_tokens);
        let mut mode = WriteMode::Overwrite;
        for ((weight, dweight), part) in layer.weights.iter().zip(gradients.dweights).zip(parts) {
            let (dy, x) = (Matrix::new(part, tokens, weight.rows), Matrix::new(layer.x, tokens, layer.width));
            self.product(dy.transposed(), x, dweight, WriteMode::Accumulate);
            self.product(dy, *weight, gradients.dx, mode);
            mode = WriteMode::Accumulate;
        }
        if let (Some(mix), Some(into)) = (layer.mix, gradients.mix) {
            self.value_mix_backward(layer, mix, dv, parts[0].part(0, dv.len), into, gradients.dx);
        }
    }

    /// Into the value embedding, its gate, and the gate's input.
    fn value_mix_backward(
        &mut self,
        layer: &QueryKeyValue,
        mix: ValueMix,
        dv: Region,
        drows: Region,
        into: ValueMixGradients,
        dx: Region,
    ) {
        let (width, heads) = (layer.width, layer.keys);
        let ValueMix { table, gate, sigma } = mix;
        let ([rows, dx], [dy, x]) = self.activations.split([drows, dx], [dv, layer.x]);
        let ([gates], [table, gate, sigma]) = self.memory.split([into.gates], [table, gate, sigma]);
        let mix = value::Mix { ids: bytemuck::cast_slice(&self.ids), table, gate, x, width };
        value::backward_mixed(dy, mix, sigma, of_heads(heads), rows, gates, dx);
        self.scatter_add(drows, heads.count * heads.size, into.dtable);
        let tokens = layer.x.len / width;
        let rows = self.activations.read(layer.x).chunks_exact(width);
        self.gate_inputs.clear();
        self.gate_inputs.extend(rows.flat_map(|row| row[..VALUE_GATE_CHANNELS].iter().map(|x| x.load())));
        let ([dgate], [gates]) = self.memory.split([into.dgate], [into.gates]);
        let gates = gemm::Matrix::new(gates, tokens, heads.count).transposed();
        let x = gemm::Matrix::new(&self.gate_inputs, tokens, VALUE_GATE_CHANNELS);
        multiply(dgate, gates, x, gemm::WriteMode::Accumulate, Threads::Pool, ComputeDtype::Full);
    }

    fn shape(&self, shape: Attention) -> attention::Shape {
        let Attention { rows, length, heads, groups, size, window } = shape;
        attention::Shape { rows, length, heads, groups, size, window, compute_dtype: self.compute_dtype }
    }
}
