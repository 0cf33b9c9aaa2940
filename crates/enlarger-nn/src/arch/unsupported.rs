//! Networks that are not supported, by the names of their arrays, so that messages can say what a file contains.

/// The likely name of an unsupported network, from parts of its arrays' names that give it away.
pub fn likely<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 12] = [
        ("relative_position_index_OCA", "HAT"),
        ("overlap_attn", "HAT"),
        ("attn.rpe_biases", "DAT"),
        ("blocks.0.attn.attns", "DAT"),
        ("relative_position_bias_table", "SwinIR or Swin2SR"),
        ("residual_layer", "OmniSR"),
        ("block_1.c1_r", "SPAN"),
        ("sk.weight", "SPAN"),
        ("gated_cnn", "RealPLKSR or MoSR"),
        ("feats.0.weight", "PLKSR or a relative"),
        ("unet1.conv1", "Real-CUGAN"),
        ("double_blocks", "a diffusion model"),
    ];
    SIGNS.iter().find(|(sign, _)| names.clone().any(|name| name.contains(sign))).map(|(_, likely)| *likely)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_known_by_an_array_of_its_own() {
        let names = ["conv_first.weight", "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"];
        assert_eq!(likely(names.into_iter()), Some("SwinIR or Swin2SR"));
        assert_eq!(likely(["block_1.c1_r.sk.weight"].into_iter()), Some("SPAN"));
        assert_eq!(likely(["conv_first.weight", "body.0.weight"].into_iter()), None);
    }
}
