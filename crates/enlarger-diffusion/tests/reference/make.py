"""Makes the references of the parity tests with diffusers and transformers: `make diffusion-fixtures`.

Weights are a formula of their names and places that tests/common/mod.rs computes, too: nothing large is committed. Written are,
beside this file: KIND.keys (names and shapes of a checkpoint in one file), KIND.safetensors (inputs are by formula, results are
here) and tokens.txt.
"""
import glob, hashlib, json, os, pathlib, sys, tempfile

import numpy as np
import torch
import diffusers
from diffusers import (AutoencoderKL, ControlNetModel, ControlNetUnionModel, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, LCMScheduler, UNet2DConditionModel)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import names

HERE = pathlib.Path(__file__).parent
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)


def uniform(name, count):
    """-1..1 in steps of 2^-23: splitmix64 of a hash of the name and the place."""
    seed = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], "<u8")[0]
    with np.errstate(over="ignore"):
        z = seed + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def weight(name, shape):
    u = uniform(name, int(np.prod(shape)))
    if len(shape) == 1:
        v = np.float32(1) + np.float32(0.1) * u if name.endswith(".weight") else np.float32(0.1) * u
    else:
        v = u * np.float32(np.sqrt(3 / np.prod(shape[1:])))
    return torch.from_numpy(v.astype(np.float16).astype(np.float32).reshape(shape))


def signal(name, shape, scale=1.0):
    """Of unit variance."""
    return torch.from_numpy((uniform(name, int(np.prod(shape))) * np.float32(np.sqrt(3)) * np.float32(scale)).reshape(shape))


class Keys:
    def __init__(self):
        self.lines = []

    def fill(self, model, prefix, rename, flat=False):
        """Fills a model by the names of its file; `flat`: its linear layers are 1x1 convolutions there."""
        joined = {}
        for name, p in model.state_dict().items():
            if "position_ids" in name:
                continue
            found = rename(name)
            theirs, third = found if isinstance(found, tuple) else (found, None)
            shape = list(p.shape)
            if third is not None:
                whole = joined.get(theirs)
                if whole is None:
                    whole = joined[theirs] = weight(prefix + theirs, [3 * shape[0], *shape[1:]])
                    self.add(prefix + theirs, whole.shape)
                p.copy_(whole[third * shape[0]:(third + 1) * shape[0]])
                continue
            if theirs == "text_projection":
                p.copy_(weight(prefix + theirs, shape[::-1]).T)
            elif flat and "attn" in theirs and len(shape) == 2:
                shape += [1, 1]
                p.copy_(weight(prefix + theirs, shape)[:, :, 0, 0])
            else:
                p.copy_(weight(prefix + theirs, shape))
            self.add(prefix + theirs, shape)
        return model.eval()

    def add(self, name, shape):
        self.lines.append(f"{name} {'x'.join(map(str, shape))}")

    def write(self, kind):
        (HERE / f"{kind}.keys").write_text("\n".join(sorted(self.lines)) + "\n")


def text_config(width, layers, heads, act):
    return CLIPTextConfig(vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                          num_attention_heads=heads, max_position_embeddings=77, hidden_act=act, projection_dim=width,
                          bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)


def chunk(ids, pad):
    return torch.tensor([[49406, *ids, 49407, *[pad] * (75 - len(ids))]])


IDS = [320, 2368, 267, 1215, 49405, 7, 2368]
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def loop(out, name, scheduler, begin, vae, predict, picture, shape, noise="noise"):
    """Image to image as diffusers' pipelines do it, with noise from outside."""
    z = vae.encode(picture * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    steps = scheduler.timesteps[begin:]
    scheduler.set_begin_index(begin)
    x = scheduler.add_noise(z, signal(noise, shape), steps[:1])
    for t in steps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    out[f"{name}.latents"] = x
    out[f"{name}.timesteps"] = steps.float()
    out[f"{name}.sigmas"] = scheduler.sigmas[begin:].float()


def guided(unet, control, hint, scale, cfg, both, added=None):
    def predict(x, t):
        x, h = torch.cat([x, x]), torch.cat([hint, hint])
        kw = dict(added_cond_kwargs=added) if added else {}
        down, mid = control(x, t, both, h, conditioning_scale=scale, return_dict=False, **kw)
        # Weights by block: 0.825 to the power of the distance from the middle.
        n = len(down)
        down = [d * 0.825 ** (n - i) for i, d in enumerate(down)]
        eps = unet(x, t, both, down_block_additional_residuals=down, mid_block_additional_residual=mid, **kw).sample
        off, on = eps.chunk(2)
        return off + cfg * (on - off)
    return predict


def tiled(predict_of, hint, side, overlap, shifts):
    """MultiDiffusion along one axis: three tiles predict, blended by raised cosines; the grid moves from step to step."""
    moves = iter(shifts)

    def predict(x, t):
        last, move = x.shape[-1] - side, next(moves)
        starts = [min(max(k * (side - overlap) - move, 0), last) for k in range(3)]
        depth = torch.tensor([min(i, side - 1 - i) for i in range(side)])
        rise = torch.where(depth < overlap, torch.sin(torch.pi / 2 * (depth + 0.5) / overlap) ** 2, 1.0)
        total, weights = torch.zeros_like(x), torch.zeros_like(x)
        for s in starts:
            total[..., s:s + side] += rise * predict_of(hint[..., 8 * s:8 * (s + side)])(x[..., s:s + side], t)
            weights[..., s:s + side] += rise
        return total / weights
    return predict


def sd15():
    keys, out = Keys(), {}
    unet = UNet2DConditionModel(sample_size=16, block_out_channels=(32, 64, 128, 128), layers_per_block=2, cross_attention_dim=32,
                                attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                                up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    vae = AutoencoderKL(block_out_channels=(32, 64, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4)
    text = CLIPTextModel(text_config(32, 3, 4, "quick_gelu"))
    control = ControlNetModel.from_unet(unet)
    up = [False, True, True, True]
    keys.fill(unet, "model.diffusion_model.", lambda n: names.unet(n, up))
    keys.fill(vae, "first_stage_model.", names.vae, flat=True)
    keys.fill(text, "cond_stage_model.transformer.text_model.", lambda n: n.removeprefix("text_model."))
    keys.fill(control, "control_model.", lambda n: names.unet(n, up))

    states = text(chunk(IDS, 49407), output_hidden_states=True)
    out["text.1"] = states.last_hidden_state
    final = getattr(text, "text_model", text).final_layer_norm
    out["text.2"] = final(states.hidden_states[-2])

    x, context = signal("x", [1, 4, 8, 16]), signal("context", [1, 77, 32])
    for t in (1, 500, 981):
        out[f"unet.{t}"] = unet(x, t, context).sample
    hint = (signal("hint", [1, 3, 64, 64]) / 4 + 0.5).clamp(0, 1)
    small = signal("small", [1, 4, 8, 8])
    down, mid = control(small, 500, context, hint, return_dict=False)
    for i, r in enumerate([*down, mid]):
        out[f"control.{i:02}"] = r

    pixels = signal("pixels", [1, 3, 32, 48], 0.5)
    out["vae.mean"] = vae.encode(pixels).latent_dist.mode()
    out["vae.decode"] = vae.decode(signal("latents", [1, 4, 4, 6])).sample

    both = torch.cat([signal("negative", [1, 77, 32]), context])
    predict = guided(unet, control, hint, 0.6, 6.0, both)
    for name, s in (("dpmpp", DPMSolverMultistepScheduler(**SCHEDULE, use_karras_sigmas=True)),
                    ("euler", EulerDiscreteScheduler(**SCHEDULE, use_karras_sigmas=True))):
        s.set_timesteps(18)
        loop(out, f"loop.{name}", s, 11, vae, predict, hint, [1, 4, 8, 8])
    wide = (signal("wide", [1, 3, 64, 256]) / 4 + 0.5).clamp(0, 1)
    s = DPMSolverMultistepScheduler(**SCHEDULE, use_karras_sigmas=True)
    s.set_timesteps(18)
    predict = tiled(lambda hint: guided(unet, control, hint, 0.6, 6.0, both), wide, 16, 4, [0, 5, 8, 2, 7, 1, 4])
    loop(out, "loop.tiles", s, 11, vae, predict, wide, [1, 4, 8, 32], "wide noise")

    # A LoRA of rank 4 and alpha 2: attention of the text and the UNet, and 3x3 convolutions.
    for model, prefix in ((unet, "lora_unet_"), (text, "lora_te_text_model_")):
        for name, p in list(model.state_dict().items()):
            module = name.removesuffix(".weight")
            if not name.endswith(".weight") or not any(s in module for s in ("attn", "resnets.1.conv1")):
                continue
            key = prefix + module.removeprefix("text_model.").replace(".", "_")
            down = weight(key + ".lora_down.weight", [4, *p.shape[1:]])
            up = weight(key + ".lora_up.weight", [p.shape[0], 4, *[1] * (p.ndim - 2)])
            keys.add(key + ".lora_down.weight", down.shape)
            keys.add(key + ".lora_up.weight", up.shape)
            p += 0.7 * (2 / 4) * (up.reshape(p.shape[0], 4) @ down.reshape(4, -1)).reshape(p.shape)
    out["lora.unet"] = unet(x, 500, context).sample
    out["lora.text"] = text(chunk(IDS, 49407)).last_hidden_state
    keys.write("sd15")
    save(out, "sd15")


def sdxl():
    keys, out = Keys(), {}
    unet = UNet2DConditionModel(sample_size=16, block_out_channels=(32, 64, 128), layers_per_block=2,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4, 8),
                                cross_attention_dim=32 + 48, transformer_layers_per_block=(1, 2, 3), use_linear_projection=True,
                                addition_embed_type="text_time", addition_time_embed_dim=16,
                                projection_class_embeddings_input_dim=48 + 6 * 16)
    vae = AutoencoderKL(block_out_channels=(32, 64, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, scaling_factor=0.13025)
    first = CLIPTextModel(text_config(32, 3, 4, "quick_gelu"))
    second = CLIPTextModelWithProjection(text_config(48, 4, 6, "gelu"))
    control = ControlNetModel.from_unet(unet)
    up = [True, True, False]
    keys.fill(unet, "model.diffusion_model.", lambda n: names.unet(n, up))
    keys.fill(vae, "first_stage_model.", names.vae, flat=True)
    keys.fill(first, "conditioner.embedders.0.transformer.text_model.", lambda n: n.removeprefix("text_model."))
    keys.fill(second, "conditioner.embedders.1.model.", names.open_clip)
    keys.fill(control, "control_model.", lambda n: names.unet(n, up))
    keys.write("sdxl")

    a = first(chunk(IDS, 49407), output_hidden_states=True)
    b = second(chunk(IDS, 0), output_hidden_states=True)
    out["text.first"], out["text.second"], out["text.pooled"] = a.hidden_states[-2], b.hidden_states[-2], b.text_embeds
    added = lambda pooled: dict(text_embeds=pooled, time_ids=torch.tensor([[1024., 768, 0, 16, 1024, 768]]).repeat(len(pooled), 1))
    x, context, pooled = signal("x", [1, 4, 8, 16]), signal("context", [1, 77, 80]), signal("pooled", [1, 48])
    for t in (1, 500, 981):
        out[f"unet.{t}"] = unet(x, t, context, added_cond_kwargs=added(pooled)).sample
    hint = (signal("hint", [1, 3, 64, 64]) / 4 + 0.5).clamp(0, 1)
    both = torch.cat([signal("negative", [1, 77, 80]), context])
    extra = added(torch.cat([signal("pooled-negative", [1, 48]), pooled]))
    s = DPMSolverMultistepScheduler(**SCHEDULE, use_karras_sigmas=True)
    s.set_timesteps(18)
    loop(out, "loop.dpmpp", s, 11, vae, guided(unet, control, hint, 0.6, 6.0, both, extra), hint, [1, 4, 8, 8])
    save(out, "sdxl")


def union():
    """A ControlNet of SDXL for eight kinds of pictures, the seventh of which is a tile; alone, and with guidance."""
    keys, out = Keys(), {}
    control = ControlNetUnionModel(block_out_channels=(32, 64, 128), layers_per_block=2,
                                   down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                                   attention_head_dim=(2, 4, 8), cross_attention_dim=32 + 48, transformer_layers_per_block=(1, 2, 3),
                                   use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=16,
                                   projection_class_embeddings_input_dim=48 + 6 * 16,
                                   conditioning_embedding_out_channels=(16, 32, 96, 256), num_control_type=8, num_trans_channel=32,
                                   num_proj_channel=32)
    keys.fill(control, "", lambda n: n)
    keys.write("union")
    hint = (signal("hint", [1, 3, 64, 64]) / 4 + 0.5).clamp(0, 1)
    small, context, pooled = signal("small", [1, 4, 8, 8]), signal("context", [1, 77, 80]), signal("pooled", [1, 48])
    sizes = torch.tensor([[1024., 768, 0, 16, 1024, 768]])
    tile = torch.nn.functional.one_hot(torch.tensor([6]), 8).float()

    def residuals(*texts):
        n = len(texts)
        added = dict(text_embeds=pooled.repeat(n, 1), time_ids=sizes.repeat(n, 1))
        down, mid = control(small.repeat(n, 1, 1, 1), 500, torch.cat(texts), [hint.repeat(n, 1, 1, 1)], tile.repeat(n, 1), [6],
                            added_cond_kwargs=added, return_dict=False)
        return [*down, mid]
    for i, r in enumerate(residuals(context)):
        out[f"control.{i:02}"] = r
    out["guided"] = residuals(signal("negative", [1, 77, 80]), context)[-1]
    save(out, "union")


def samplers():
    """The samplers alone on a formula in place of a network, with noise from outside."""
    import diffusers.schedulers.scheduling_euler_discrete as _e
    out = {}
    toy = lambda x, t: 0.7 * torch.tanh(x) + 0.2 * torch.sin(0.01 * t)
    start = signal("start", [64])
    modules = {"eulera": diffusers.schedulers.scheduling_euler_ancestral_discrete, "lcm": diffusers.schedulers.scheduling_lcm}
    for name, s, steps, begin in (
            ("dpmpp", DPMSolverMultistepScheduler(**SCHEDULE, use_karras_sigmas=True), 12, 3),
            ("euler", EulerDiscreteScheduler(**SCHEDULE, use_karras_sigmas=True), 12, 3),
            ("eulera", EulerAncestralDiscreteScheduler(**SCHEDULE), 12, 3),
            ("ddim", DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False), 10, 4),
            ("lcm", LCMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False), 4, 0)):
        s.set_timesteps(steps)
        if name in modules:
            draws = iter(range(99))
            modules[name].randn_tensor = lambda shape, **_: signal(f"draw {next(draws)}", shape)
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(begin)
        ts = s.timesteps[begin:]
        x = s.add_noise(start, signal("toy noise", [64]), ts[:1])
        for t in ts:
            x = s.step(toy(s.scale_model_input(x, t), t), t, x).prev_sample
        out[name] = x
        out[f"{name}.timesteps"] = ts.float()
        if hasattr(s, "sigmas"):
            out[f"{name}.sigmas"] = s.sigmas[begin:].float()
    for n in (5, 16, 70):
        out[f"randn.{n}"] = torch.randn(n, generator=torch.Generator().manual_seed(1337))
    save(out, "samplers")


TEXTS = ["a cat", "A photo of a Cat, 4k!!", "masterpiece, best quality, (highres)", "it's the artist's 2nd painting -- über-schön",
         "ein Mädchen im Café   mit\ttabs\nund Zeilen", "日本の城 🏯 ❤️", "<|endoftext|> x", "don't we'll I'm they've she'd 12345 3.14",
         "naïve façade №5 ½ ²", "hello_world snake_case foo/bar\\baz", "ＦＵＬＬ width İstanbul ﬁne", ""]


def tokens():
    merges = open(glob.glob(os.path.expanduser("~/.cargo/registry/src/*/instant-clip-tokenizer-0.1.0/bpe_simple_vocab_16e6.txt"))[0],
                  encoding="utf8").read().split("\n")[1:49152 - 256 - 2 + 1]
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    signs = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    vocab = signs + [s + "</w>" for s in signs] + ["".join(m.split()) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as d:
        json.dump({v: i for i, v in enumerate(vocab)}, open(d + "/vocab.json", "w"))
        open(d + "/merges.txt", "w").write("#version: 0.2\n" + "\n".join(merges))
        tokenizer = CLIPTokenizer.from_pretrained(d)
        lines = [json.dumps([t, tokenizer(t).input_ids[1:-1]], ensure_ascii=False) for t in TEXTS]
    (HERE / "tokens.txt").write_text("\n".join(lines) + "\n")


def save(out, kind):
    save_file({k: v.detach().float().contiguous() for k, v in out.items()}, HERE / f"{kind}.safetensors")
    for k, v in out.items():
        print(kind, k, tuple(v.shape), float(v.abs().mean()))


for part in sys.argv[1:] or ["sd15", "sdxl", "union", "samplers", "tokens"]:
    globals()[part]()
