"""Names of diffusers and transformers to those of checkpoints in one file (latent diffusion, OpenCLIP)."""
import re

RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"), ("norm2", "out_layers.0"),
          ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection")]
TOP = [("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"), ("conv_in", "input_blocks.0.0"),
       ("conv_norm_out", "out.0"), ("conv_out", "out.2"), ("add_embedding.linear_1", "label_emb.0.0"),
       ("add_embedding.linear_2", "label_emb.0.2"), ("controlnet_mid_block", "middle_block_out.0"),
       ("controlnet_cond_embedding.conv_in", "input_hint_block.0"), ("controlnet_cond_embedding.conv_out", "input_hint_block.14")]


def unet(name, attention_up):
    """`attention_up`: whether each block on the way up has attention, which moves the place of its upsampler."""
    for ours, ldm in TOP:
        if name.startswith(ours + "."):
            return ldm + name[len(ours):]
    m = re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", name)
    if m:
        return f"zero_convs.{m[1]}.0.{m[2]}"
    m = re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", name)
    if m:
        return f"input_hint_block.{2 * int(m[1]) + 2}.{m[2]}"
    m = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name)
    if m:
        at = 1 if m[1] == "attentions" else 2 * int(m[2])
        return f"middle_block.{at}.{resnet(m[3]) if m[1] == 'resnets' else m[3]}"
    m = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    way, level, kind, at, rest = m[1], int(m[2]), m[3], int(m[4]), m[5]
    if kind == "downsamplers":
        return f"input_blocks.{3 * level + 3}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{2 if attention_up[level] else 1}.{rest}"
    block = f"input_blocks.{3 * level + at + 1}" if way == "down" else f"output_blocks.{3 * level + at}"
    return f"{block}.0.{resnet(rest)}" if kind == "resnets" else f"{block}.1.{rest}"


def resnet(rest):
    part, end = rest.rsplit(".", 1)
    return f"{dict(RESNET)[part]}.{end}"


def vae(name, levels=4):
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.", "mid.attn_1.").replace("group_norm.", "norm.").replace("to_out.0.", "proj_out.")
    name = re.sub(r"attn_1\.to_([qkv])\.", r"attn_1.\1.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    flip = lambda m, what: f"decoder.up.{levels - 1 - int(m[1])}.{what}."
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.", lambda m: flip(m, "block"), name)
    return re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: flip(m, "upsample"), name)


def open_clip(name):
    """The name, and which third of the rows where queries, keys and values are joined."""
    name = name.removeprefix("text_model.")
    if name == "text_projection.weight":
        return "text_projection", None
    if name == "embeddings.position_embedding.weight":
        return "positional_embedding", None
    for ours, theirs in [("embeddings.token_embedding", "token_embedding"), ("encoder.layers", "transformer.resblocks"),
                         ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                         ("final_layer_norm", "ln_final"), ("self_attn.out_proj", "attn.out_proj")]:
        name = name.replace(ours, theirs)
    m = re.match(r"(.*)self_attn\.([qkv])_proj\.(weight|bias)", name)
    return (f"{m[1]}attn.in_proj_{m[3]}", "qkv".index(m[2])) if m else (name, None)
