//! Embedding and smear, forward and backward.

use nanochat_kernels::{Element, embedding, norm, smear};

use super::Cpu;
use crate::ops::{Region, Smear};

impl<T: Element> Cpu<T> {
    /// `out` holds the gathered rows until they are smeared.
    pub(super) fn embed(
        &mut self,
        table: Region,
        smear: Smear,
        [embedded, inverse]: [Region; 2],
        [out, sigma]: [Region; 2],
    ) {
        let Smear { gate, lambda, length, width } = smear;
        let ([gathered], [table]) = self.memory.split([out], [table]);
        embedding::gather(table, bytemuck::cast_slice(&self.ids), width, gathered);
        let ([normed, inverse], [gathered]) = self.memory.split([embedded, inverse], [out]);
        norm::forward(gathered, width, normed, inverse);
        let lambda = self.scalar(lambda);
        let ([out, sigma], [embedded, gate]) = self.memory.split([out, sigma], [embedded, gate]);
        smear::forward(embedded, smear::Smear { length, width, gate, lambda }, out, sigma);
    }

    pub(super) fn smear_backward(
        &mut self,
        [dx, embedded, sigma]: [Region; 3],
        smear: Smear,
        written: [Region; 3],
        dlambda: Region,
    ) {
        let Smear { gate, lambda, length, width } = smear;
        let lambda = self.scalar(lambda);
        let ([dembedded, dgate, slopes], [dx, embedded, sigma, gate]) =
            self.memory.split(written, [dx, embedded, sigma, gate]);
        let smear = smear::Smear { length, width, gate, lambda };
        let slope = smear::backward(dx, embedded, smear, sigma, dembedded, dgate, slopes);
        self.gain(dlambda, slope);
    }

    /// Adds rows to those of a table that the batch's ids name, in the order of the batch.
    pub(super) fn scatter_add(&mut self, rows: Region, width: usize, table: Region) {
        let ([table], [rows]) = self.memory.split([table], [rows]);
        embedding::scatter_add(rows, bytemuck::cast_slice(&self.ids), width, table);
    }
}
