//! A layer's attention and MLP, forward and backward. Queries, keys and values lie one after the other, each head-major.

use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::{Element, attention, rotary, squared_relu, value};
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

impl<T: Element> Cpu<T> {
    /// The workspace takes queries, keys and values token-major.
    pub(super) fn query_key_value(&mut self, layer: &QueryKeyValue, workspace: Region) {
        let tokens = layer.x.len / layer.width;
        let parts = workspace.carve(sizes(layer, tokens));
        for (weight, part) in layer.weights.iter().zip(parts) {
            let x = Matrix::new(layer.x, tokens, layer.width);
            self.product(x, weight.transposed(), part, WriteMode::Overwrite, self.compute_dtype);
        }
        let [query, key, value] = layer.qkv.carve(sizes(layer, tokens));
        let [q, k, v] = parts;
        let turned = [(q, query, layer.queries, layer.inverses[0]), (k, key, layer.keys, layer.inverses[1])];
        for (x, out, heads, inverse) in turned {
            let [cos, sin] = layer.angles;
            let ([out, inverse], [x, cos, sin]) = self.memory.split([out, inverse], [x, cos, sin]);
            rotary::forward(x, rotary::Angles { cos, sin }, of_heads(heads), out, inverse);
        }
        let heads = of_heads(layer.keys);
        if let Some(ValueMix { table, gate, sigma }) = layer.mix {
            let ([out, sigma], [v, table, gate, x]) = self.memory.split([value, sigma], [v, table, gate, layer.x]);
            let mix = value::Mix { ids: bytemuck::cast_slice(&self.ids), table, gate, x, width: layer.width };
            value::forward_mixed(v, mix, heads, out, sigma);
        } else {
            let ([out], [v]) = self.memory.split([value], [v]);
            value::forward(v, heads, out);
        }
    }

    /// The workspace takes the result head-major.
    pub(super) fn attend(&mut self, attention: Attention, qkv: Region, workspace: Region, [out, log_sum]: [Region; 2]) {
        let shape = self.shape(attention);
        self.attention.reserve(shape.workspace_elements());
        let ([attended, log_sum], [q, k, v]) = self.memory.split([workspace, log_sum], qkv.carve(attention.elements()));
        attention::forward(shape, attention::Inputs { q, k, v }, attended, log_sum, &self.attention);
        let ([out], [attended]) = self.memory.split([out], [workspace]);
        attention::to_tokens(attended, shape, out);
    }

    /// The workspace takes the squares.
    pub(super) fn mlp_output(&mut self, hidden: Region, weight: Matrix, workspace: Region, out: Region) {
        let ([x, squares], []) = self.memory.split([hidden, workspace], []);
        squared_relu::forward(x, squares);
        let tokens = hidden.len / weight.columns;
        let squares = Matrix::new(workspace, tokens, weight.columns);
        self.product(squares, weight.transposed(), out, WriteMode::Accumulate, self.compute_dtype);
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
        self.product(dout, weight, dhidden, WriteMode::Overwrite, self.compute_dtype);
        let ([gradient, squares], [x]) = self.memory.split([dhidden, workspace], [hidden]);
        squared_relu::backward(x, gradient, squares);
        let squares = Matrix::new(workspace, tokens, weight.columns);
        self.product(dout.transposed(), squares, dweight, WriteMode::Accumulate, self.compute_dtype);
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
        let ([dout, delta], [dattended, attended]) = self.memory.split(workspaces, [dattended, attended]);
        attention::prepare_backward(dattended, attended, shape, dout, delta);
        let [q, k, v] = qkv.carve(attention.elements());
        let ([dq, dk, dv], [q, k, v, lse, dout, delta]) =
            self.memory.split(dqkv.carve(attention.elements()), [q, k, v, log_sum, workspaces[0], workspaces[1]]);
        let (inputs, saved) = (attention::Inputs { q, k, v }, attention::Saved { lse, dout, delta });
        attention::backward(shape, inputs, saved, attention::Outputs { dq, dk, dv }, &self.attention);
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
            let ([dx], [dy, y, inverse, cos, sin]) = self.memory.split([dx], [dy, y, inverse, cos, sin]);
            rotary::backward(dy, y, inverse, rotary::Angles { cos, sin }, of_heads(heads), dx);
        }
        let ([dv_tokens], [dv_heads]) = self.memory.split([parts[2]], [dv]);
        value::backward(dv_heads, of_heads(layer.keys), dv_tokens);
        let mut mode = WriteMode::Overwrite;
        for ((weight, dweight), part) in layer.weights.iter().zip(gradients.dweights).zip(parts) {
            let (dy, x) = (Matrix::new(part, tokens, weight.rows), Matrix::new(layer.x, tokens, layer.width));
            self.product(dy.transposed(), x, dweight, WriteMode::Accumulate, self.compute_dtype);
            self.product(dy, *weight, gradients.dx, mode, self.compute_dtype);
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
        let ([rows, gates, dx], [dy, table, gate, x, sigma]) =
            self.memory.split([drows, into.gates, dx], [dv, table, gate, layer.x, sigma]);
        let mix = value::Mix { ids: bytemuck::cast_slice(&self.ids), table, gate, x, width };
        value::backward_mixed(dy, mix, sigma, of_heads(heads), rows, gates, dx);
        self.scatter_add(drows, heads.count * heads.size, into.dtable);
        let tokens = layer.x.len / width;
        let gates = Matrix::new(into.gates, tokens, heads.count).transposed();
        let x = Matrix::strided(layer.x, tokens, VALUE_GATE_CHANNELS, width);
        self.product(gates, x, into.dgate, WriteMode::Accumulate, ComputeDtype::Full);
    }

    fn shape(&self, shape: Attention) -> attention::Shape {
        let Attention { rows, length, heads, groups, size, window } = shape;
        attention::Shape { rows, length, heads, groups, size, window, compute_dtype: self.compute_dtype }
    }
}
