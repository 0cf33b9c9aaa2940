//! Residual in residual dense blocks (Wang et al. 2018, ESRGAN); 2x and 1x networks unshuffle pixels first.

mod names;
mod sizes;
mod tail;
mod trunk;

pub use sizes::RrdbNet;

use crate::{
    architecture::{self, Architecture},
    cpu::CpuKernels,
    error::{NnError, shortened},
    graph::{Graph, Node},
    model::Model,
    tensor::StateDict,
};

/// The most upsamplings to look for: 16 times the size.
const MOST_UPSAMPLINGS: usize = 4;

impl Architecture for RrdbNet {
    fn scale(&self) -> u32 {
        ((1 << self.upsamplings) / self.unshuffle) as u32
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn alignment(&self) -> usize {
        self.unshuffle
    }

    /// The receptive field is some 350 pixels. Measured with x4plus on samples/stream.jpg in f32, cut in both directions,
    /// the largest difference from the uncut result is 36/255 with a halo of 32 and 2/255 with 64, where 99.99 % of the
    /// samples are within 1/255.
    fn halo(&self) -> u32 {
        64 * self.unshuffle as u32
    }

    fn graph(&self) -> Graph {
        self.layers()
    }

    fn on_cpu(&self, kernels: CpuKernels, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        kernels.load(self, weights)
    }
}

/// Recognises ESRGAN's networks.
pub struct Family;

impl architecture::Family for Family {
    fn name(&self) -> &'static str {
        "ESRGAN (RRDBNet)"
    }

    fn first_arrays(&self) -> &'static [&'static str] {
        &["conv_first.weight", "model.0.weight"]
    }

    fn recognises(&self, weights: &StateDict) -> bool {
        names::is_trunk(weights) || names::is_esrgan(weights) || names::is_canonical(weights)
    }

    fn canonical(&self, weights: StateDict) -> Result<StateDict, NnError> {
        let mut named = names::canonical(weights)?;
        names::fold_plus(&mut named)?;
        Ok(named)
    }

    fn sizes(&self, weights: &StateDict) -> Result<Box<dyn Architecture>, NnError> {
        let first = weights.conv_shape("conv_first.weight")?;
        let last = weights.conv_shape("conv_last.weight")?;
        let growth = weights.conv_shape("body.0.rdb1.conv1.weight")?[0];
        let has = |name: String| weights.0.contains_key(&name);
        let blocks = (0..).take_while(|block| has(format!("body.{block}.rdb1.conv1.weight"))).count();
        let upsamplings = (1..=MOST_UPSAMPLINGS).take_while(|up| has(format!("conv_up{up}.weight"))).count();
        let (read, channels) = (first[1], last[0]);
        // Unshuffling by r turns c channels into c * r * r. All networks of this kind output as many colours as they
        // read.
        let unshuffle = (1..=4).find(|r| channels * r * r == read).ok_or_else(|| {
            NnError::Weights(format!("the first layer reads {read} channels and the last makes {channels}"))
        })?;
        let up = 1usize << upsamplings;
        if !matches!(channels, 1 | 3) || !up.is_multiple_of(unshuffle) {
            return Err(NnError::Architecture(format!(
                "the ESRGAN model outputs {channels} channels at {up}/{unshuffle} times the size; supported are 1 or \
                 3 channels at a whole factor"
            )));
        }
        Ok(Box::new(RrdbNet { unshuffle, channels, features: first[0], blocks, growth, upsamplings }))
    }

    fn sizes_of_graph(&self, graph: &Graph) -> Result<Option<Box<dyn Architecture>>, NnError> {
        let is_other = |node: &Node| matches!(node, Node::PixelShuffle(..) | Node::Prelu(..));
        let [first, second, ..] = graph.convs() else { return Ok(None) };
        if graph.nodes().iter().any(is_other) {
            return Ok(None);
        }
        let unshuffle = match graph.nodes()[first.input] {
            Node::PixelUnshuffle(_, by) => by,
            _ => 1,
        };
        graph.same_colours(1, unshuffle)?;
        let mut upsamplings = 0;
        for (id, node) in graph.nodes().iter().enumerate() {
            let Node::Upsample(_, by) = *node else { continue };
            if by != 2 {
                let layer = graph.convs().iter().find(|conv| conv.input == id).unwrap_or(first);
                return Err(NnError::Architecture(format!(
                    "the ncnn model upsamples {by} times before its layer {}; supported are ESRGAN models that \
                     double the size",
                    shortened(&layer.name)
                )));
            }
            upsamplings += 1;
        }
        let upsamplings = upsamplings.min(MOST_UPSAMPLINGS);
        // 15 convolutions per block; first, body, high and last; one per upsampling.
        let blocks = graph.convs().len().saturating_sub(4 + upsamplings) / 15;
        let channels = first.inputs / unshuffle.saturating_mul(unshuffle).max(1);
        let (features, growth) = (first.outputs, second.outputs);
        Ok(Some(Box::new(RrdbNet { unshuffle, channels, features, blocks, growth, upsamplings })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{architecture::Family as _, tensor::Tensor};

    const LARGE: RrdbNet = RrdbNet { unshuffle: 1, channels: 3, features: 64, blocks: 23, growth: 32, upsamplings: 2 };

    /// Zeros of the shapes that a network has.
    fn arrays(network: &RrdbNet) -> StateDict {
        let mut dict = StateDict::default();
        for conv in network.graph().convs() {
            let shape = vec![conv.outputs, conv.inputs, 3, 3];
            let data = vec![0.0; shape.iter().product()];
            dict.0.insert(format!("{}.weight", conv.name), Tensor { shape, data });
            let bias = Tensor { shape: vec![conv.outputs], data: vec![0.0; conv.outputs] };
            dict.0.insert(format!("{}.bias", conv.name), bias);
        }
        dict
    }

    #[test]
    fn sizes_are_read_from_shapes() {
        for (unshuffle, channels, scale) in [(1, 3, 4), (2, 3, 2), (4, 3, 1), (1, 1, 4), (2, 1, 2)] {
            let network = RrdbNet { unshuffle, channels, features: 8, blocks: 2, growth: 4, upsamplings: 2 };
            let dict = arrays(&network);
            assert!(Family.recognises(&dict));
            let found = Family.sizes(&dict).expect("a network");
            assert_eq!(found.to_string(), format!("RRDBNet {scale}x, 2 blocks, 8 features, growth 4"));
            assert_eq!((found.scale(), found.channels(), found.alignment()), (scale, channels, unshuffle));
            assert_eq!(found.halo(), 64 * unshuffle as u32);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let mut dict = arrays(&RrdbNet { features: 8, blocks: 1, growth: 4, ..LARGE });
        dict.0.get_mut("conv_first.weight").expect("there").shape[1] = 5;
        assert!(Family.sizes(&dict).expect_err("refused").to_string().contains("reads 5 channels"));
        let whole = RrdbNet { unshuffle: 4, upsamplings: 1, features: 8, blocks: 1, growth: 4, ..LARGE };
        assert!(Family.sizes(&arrays(&whole)).expect_err("refused").to_string().contains("2/4 times"));
    }

    #[test]
    fn the_operations_of_x4plus_are_counted_by_hand() {
        // Weights of one dense block: 64, 96, 128 and 160 channels to 32, 192 to 64.
        let dense = 32.0 * (64.0 + 96.0 + 128.0 + 160.0) + 192.0 * 64.0;
        let trunk = 3.0 * 64.0 + 23.0 * 3.0 * dense + 64.0 * 64.0;
        let tail = (4.0 + 16.0) * 64.0 * 64.0 + 16.0 * (64.0 * 64.0 + 64.0 * 3.0);
        assert_eq!(LARGE.graph().flops_per_pixel(), 18.0 * (trunk + tail));
        // At 2x all of it runs on a quarter of the pixels, and the first convolution reads four times the channels.
        let half = RrdbNet { unshuffle: 2, ..LARGE };
        assert_eq!(half.graph().flops_per_pixel(), 18.0 * (trunk + 9.0 * 64.0 + tail) / 4.0);
    }

    #[test]
    fn all_namings_become_one() {
        let network = RrdbNet { features: 8, blocks: 1, growth: 4, ..LARGE };
        let expected = arrays(&network);
        let renamed = |rename: &dyn Fn(&str) -> String| {
            StateDict(expected.0.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect())
        };
        let trunk = renamed(&|name| {
            name.replace("body.", "RRDB_trunk.")
                .replace(".rdb", ".RDB")
                .replace("conv_body", "trunk_conv")
                .replace("conv_up", "upconv")
                .replace("conv_hr", "HRconv")
        });
        let old = renamed(&|name| {
            let (layer, part) = name.rsplit_once('.').expect("a layer and a part");
            let numbered = [
                ("conv_first", "model.0"),
                ("conv_body", "model.1.sub.1"),
                ("conv_up1", "model.3"),
                ("conv_up2", "model.6"),
                ("conv_hr", "model.8"),
                ("conv_last", "model.10"),
            ];
            match numbered.iter().find(|(canonical, _)| *canonical == layer) {
                Some((_, number)) => format!("{number}.{part}"),
                None => format!("{}.0.{part}", layer.replace("body.", "model.1.sub.").replace(".rdb", ".RDB")),
            }
        });
        for dict in [trunk, old, expected.clone()] {
            assert!(Family.recognises(&dict));
            assert_eq!(Family.canonical(dict).expect("a network"), expected);
        }
    }
}
