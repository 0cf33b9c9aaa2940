//! A plan becomes pixels.

use std::{
    borrow::Cow,
    ops::ControlFlow,
    sync::Mutex,
    time::{Duration, Instant},
};

use enlarger_image::{Channels, ImageError, Metadata, Picture, Sample, Samples, with_samples};
use enlarger_nn::{Device, RunOptions, Source};

use crate::{
    blend::blend,
    canvas::{Canvas, PictureSource, Plane, View},
    dither::smoothed,
    error::PipelineError,
    extent::{Extent, MARGIN},
    generate::{Generator, Pass as Drawing},
    memory,
    networks::{Costs, Loaded, Networks},
    plan::{AlphaWay, Ensemble, Patch, Plan, Step},
    request::Crop,
    resize::{Resampling, resample},
    style::Filter,
    watch::{Progress, Stage, Watch},
};

/// What a pass of unknown duration weighs in the progress of a job: more than networks do. Nobody is told it as a time.
const UNKNOWN_SECONDS: f64 = 60.0;
/// Pixels around an area that stays, over which it fades into what is drawn.
const KEPT_RIM: u32 = 24;
/// Pixels of the source over which a patch fades into what is around it.
const RIM: u32 = 12;
/// Pixels around a texture that repeats, which networks and filters see of its other side: three standard deviations of the widest
/// filter, color correction.
const WRAP: u32 = 24;

/// What became of a plan.
pub(crate) struct Ran {
    pub picture: Picture,
    /// The time that networks took.
    pub networks: Duration,
    /// What went wrong and was mended, such as a GPU that failed.
    pub notes: Vec<String>,
}

/// Runs a plan on the picture it was made for. Holds the input, one intermediate result and the output at most.
///
/// # Errors
/// [`PipelineError::Cancelled`] between tiles, or what loading and running a network can raise.
pub(crate) fn run(
    plan: &Plan,
    picture: &Picture,
    networks: &Networks,
    generator: &dyn Generator,
    options: &RunOptions,
    watch: &dyn Watch,
) -> Result<Ran, PipelineError> {
    let options = &RunOptions { halo: plan.halo, ..options.clone() };
    let drawing: Vec<Option<f64>> = plan
        .generated()
        .map(|pass| Ok(generator.cost(pass, networks.device())?.seconds))
        .collect::<Result<_, PipelineError>>()?;
    let weight = |seconds: &Option<f64>| seconds.unwrap_or(UNKNOWN_SECONDS);
    let meter = Meter::new(networks.costs(plan, drawing.iter().map(weight).sum()), watch);
    let mut drawing = drawing.into_iter();
    let _held = networks.hold(plan);
    let border = if plan.wraps() { Border::Repeats } else { Border::Ends };
    let (framed, part) = framed(plan, picture, border)?;
    let (framed, part) = match plan.smoothed {
        0 => (framed, part),
        rounds => (Cow::Owned(smoothed(&framed, rounds)?), part),
    };
    let (framed, part) = match plan.reduced {
        Some(Extent { width, height }) => {
            let reduced = resample(&cropped(&framed, part)?, width, height, Resampling::CatmullRom)?;
            let whole = View::of(&reduced).part;
            (Cow::Owned(reduced), whole)
        }
        None => (framed, part),
    };
    let source =
        if part == View::of(&framed).part { Cow::Borrowed(&*framed) } else { Cow::Owned(cropped(&framed, part)?) };
    let mut current = Cow::Borrowed(&*source);
    // What areas that stay show, until colours are corrected: that looks beyond their sides.
    let mut undrawn: Option<(Picture, &[Crop])> = None;
    for (index, step) in plan.steps.iter().enumerate() {
        current = Cow::Owned(match step {
            Step::Network { by, scale, halve, patches, .. } => {
                let factor = if *halve { scale / 2 } else { *scale };
                let bits = plan.bits_after(index);
                let pass = Pass {
                    networks,
                    options,
                    meter: &meter,
                    alpha: &plan.alpha,
                    factor,
                    bits,
                    margin: border.margin(),
                };
                match border {
                    _ if index == 0 => pass.run(&current, View { picture: &framed, part }, by, patches)?,
                    Border::Ends => pass.run(&current, View::of(&current), by, patches)?,
                    Border::Repeats => {
                        let around = repeated(&current, [WRAP; 2])?;
                        let part = Crop { x: WRAP, y: WRAP, ..View::of(&current).part };
                        pass.run(&current, View { picture: &around, part }, by, patches)?
                    }
                }
            }
            Step::Diffuse(_) | Step::Workflow(_) => {
                let pass = step.pass().expect("it is one");
                let part = meter.begin_for(drawing.next().expect("each pass has a cost"));
                let started = Instant::now();
                if !pass.keep().is_empty() {
                    undrawn = Some((current.try_clone()?, pass.keep()));
                }
                let hint = border.resample(&source, pass.at(), Resampling::CatmullRom)?;
                let drawn_by = (generator, networks.device());
                let (drawn, notes) =
                    diffuse(pass, current.into_owned(), &hint, plan.bits_after(index), drawn_by, &part)?;
                meter.note(notes);
                meter.end(part, started.elapsed());
                drawn
            }
            Step::Resample { to, kernel } => border.resample(&current.into_owned().into_depth(16)?, *to, *kernel)?,
            Step::Style { filter, .. } => {
                memory::room_for_small()?;
                let mut picture = current.into_owned();
                if !filter.keeps_depth() {
                    picture = picture.into_depth(16)?;
                }
                let seen = View { picture: &framed, part };
                let seed = plan.seed.wrapping_add(index as u64);
                border.apply(filter, &mut picture, &source, seen, seed)?;
                if matches!(filter, Filter::ColourCorrection { .. })
                    && let Some((undrawn, areas)) = undrawn.take()
                {
                    let mut undrawn = undrawn.into_depth(picture.samples.bits())?;
                    border.apply(filter, &mut undrawn, &source, seen, seed)?;
                    keep(&mut picture, &undrawn, areas)?;
                }
                picture
            }
        });
        if watch.cancelled() {
            return Err(PipelineError::Cancelled);
        }
    }
    let (networks, notes) = meter.ended();
    Ok(Ran { picture: current.into_owned().into_depth(plan.bits)?, networks, notes })
}

/// What is beyond the sides of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Border {
    /// Nothing: its mirror image is seen.
    Ends,
    /// Its other side: it is a texture that repeats.
    Repeats,
}

impl Border {
    /// Pixels of it that networks see.
    fn margin(self) -> u32 {
        match self {
            Self::Ends => MARGIN,
            Self::Repeats => WRAP,
        }
    }

    fn resample(self, from: &Picture, to: Extent, kernel: Resampling) -> Result<Picture, ImageError> {
        if self == Self::Ends {
            return resample(from, to.width, to.height, kernel);
        }
        let [x, y] = [matching(from.width, to.width), matching(from.height, to.height)];
        let around = repeated(from, [x[0], y[0]])?;
        let larger = resample(&around, to.width + 2 * x[1], to.height + 2 * y[1], kernel)?;
        cropped(&larger, Crop { x: x[1], y: y[1], width: to.width, height: to.height })
    }

    /// Changes a picture by a filter, see [`Filter::apply`].
    fn apply(
        self,
        filter: &Filter,
        picture: &mut Picture,
        source: &Picture,
        seen: View<'_>,
        seed: u64,
    ) -> Result<(), ImageError> {
        // Faces are boxes of the whole picture, and no texture's.
        if self == Self::Ends || matches!(filter, Filter::Skin { .. }) {
            return filter.apply(picture, source, seen, seed);
        }
        let [x, y] = [matching(source.width, picture.width), matching(source.height, picture.height)];
        let around = repeated(source, [x[0], y[0]])?;
        let mut larger = repeated(picture, [x[1], y[1]])?;
        filter.apply(&mut larger, &around, View::of(&around), seed)?;
        *picture = cropped(&larger, Crop { x: x[1], y: y[1], width: picture.width, height: picture.height })?;
        Ok(())
    }
}

/// Margins of a side and of one of another length that show the same: as near to it as whole pixels allow.
fn matching(from: u32, to: u32) -> [u32; 2] {
    let (side, other) = (u64::from(from), u64::from(to));
    let off = |margin: &u64| (margin * other % side).min(side - margin * other % side);
    let margin = (u64::from(WRAP)..2 * u64::from(WRAP)).min_by_key(off).unwrap_or_default();
    [margin as u32, ((margin * other + side / 2) / side) as u32]
}

/// Draws a picture anew, close to the source, which the hint shows at its size. Alpha stays. Gives the generator's notes, too.
fn diffuse(
    pass: Drawing<'_>,
    from: Picture,
    hint: &Picture,
    bits: u8,
    (generator, device): (&dyn Generator, &dyn Device),
    part: &MeterPart<'_>,
) -> Result<(Picture, Vec<String>), PipelineError> {
    let mut drawn = from.try_clone()?.into_depth(bits)?;
    let notes = {
        let [seen, hint] = [&from, hint].map(|picture| PictureSource::new(View::of(picture), 0, Plane::Colour));
        let canvas = Canvas::new(&mut drawn, 0);
        generator.run(pass, device, [&seen, &hint], &canvas.sink(Plane::Colour, false), &|p| part.tick(p))?
    };
    Ok((drawn, notes))
}

/// Lays areas of a picture over another of its size and depth. They fade around themselves.
fn keep(drawn: &mut Picture, undrawn: &Picture, areas: &[Crop]) -> Result<(), ImageError> {
    for area in areas {
        let around = with_margin(*area, KEPT_RIM, drawn);
        blend(drawn, &cropped(undrawn, around)?, [around.x, around.y], KEPT_RIM);
    }
    Ok(())
}

/// The planned part of the picture with what networks see around it, and where it lies in there. Colour under transparency is
/// made harmless; from here on no step makes it anything else.
fn framed<'a>(plan: &Plan, picture: &'a Picture, border: Border) -> Result<(Cow<'a, Picture>, Crop), PipelineError> {
    let (mut framed, part) = match plan.crop {
        part if border == Border::Repeats => {
            let part = part.unwrap_or(View::of(picture).part);
            let framed = repeated(&cropped(picture, part)?, [WRAP; 2])?;
            (Cow::Owned(framed), Crop { x: WRAP, y: WRAP, ..part })
        }
        Some(part) => {
            let around = with_margin(part, MARGIN, picture);
            (Cow::Owned(cropped(picture, around)?), Crop { x: part.x - around.x, y: part.y - around.y, ..part })
        }
        None => (Cow::Borrowed(picture), View::of(picture).part),
    };
    if matches!(plan.alpha, AlphaWay::Network(_) | AlphaWay::Cubic) {
        let mut harmless = match framed {
            Cow::Owned(framed) => framed,
            Cow::Borrowed(picture) => picture.try_clone()?,
        };
        bleed(&mut harmless);
        framed = Cow::Owned(harmless);
    }
    Ok((framed, part))
}

/// A texture with what lies around it where it is repeated, as far as margins at its sides, and at top and bottom.
fn repeated(picture: &Picture, margins: [u32; 2]) -> Result<Picture, ImageError> {
    fn rows<T: Sample>(from: &[T], to: &mut [T], [width, height, n]: [usize; 3], [beside, above]: [usize; 2]) {
        // The first place is a margin before the texture, which is as far behind the start of some repetition.
        let place = |at: usize, margin: usize, side: usize| (at + margin * side - margin) % side;
        for (y, to) in to.chunks_exact_mut((width + 2 * beside) * n).enumerate() {
            let line = &from[place(y, above, height) * width * n..][..width * n];
            for (x, to) in to.chunks_exact_mut(n).enumerate() {
                to.copy_from_slice(&line[place(x, beside, width) * n..][..n]);
            }
        }
    }
    let size = [picture.width as usize, picture.height as usize, picture.channels.count()];
    let [beside, above] = margins;
    let (width, height) = (picture.width + 2 * beside, picture.height + 2 * above);
    let mut all = picture.blank(width, height, picture.samples.bits())?;
    with_samples!(&mut all.samples, to => rows(picture.samples.of_depth(), to, size, margins.map(|m| m as usize)));
    Ok(all)
}

/// A part of a picture with what is around it there, as far as a margin.
fn with_margin(part: Crop, margin: u32, picture: &Picture) -> Crop {
    let (x, y) = (part.x.saturating_sub(margin), part.y.saturating_sub(margin));
    let width = (part.x + part.width).saturating_add(margin).min(picture.width) - x;
    let height = (part.y + part.height).saturating_add(margin).min(picture.height) - y;
    Crop { x, y, width, height }
}

fn cropped(picture: &Picture, crop: Crop) -> Result<Picture, ImageError> {
    fn rows<T: Sample>(from: &[T], to: &mut [T], width: usize, n: usize, c: Crop) {
        let (x, w) = (c.x as usize * n, c.width as usize * n);
        let lines = from.chunks_exact(width * n).skip(c.y as usize);
        to.chunks_exact_mut(w).zip(lines).for_each(|(to, line)| to.copy_from_slice(&line[x..x + w]));
    }
    let (width, n) = (picture.width as usize, picture.channels.count());
    let mut part = picture.blank(crop.width, crop.height, picture.samples.bits())?;
    with_samples!(&mut part.samples, to => rows(picture.samples.of_depth(), to, width, n, crop));
    Ok(part)
}

struct Pass<'a> {
    networks: &'a Networks,
    options: &'a RunOptions,
    meter: &'a Meter<'a>,
    alpha: &'a AlphaWay,
    /// What it makes. Results of networks that make twice as much are halved.
    factor: u32,
    bits: u8,
    /// Pixels around a picture that networks see.
    margin: u32,
}

impl Pass<'_> {
    /// Enlarges a picture, which networks see as a part of another.
    fn run(&self, from: &Picture, seen: View<'_>, by: &Ensemble, patches: &[Patch]) -> Result<Picture, PipelineError> {
        let (factor, bits) = (self.factor, self.bits);
        let (width, height) = (from.width * factor, from.height * factor);
        let mut picture = self.colours(seen, by)?;
        for Patch { area, by } in patches {
            let part = Crop { x: seen.part.x + area.x, y: seen.part.y + area.y, ..*area };
            let piece = self.colours(View { part, ..seen }, by)?;
            blend(&mut picture, &piece, [area.x, area.y].map(|start| start * factor), RIM * factor);
        }
        if let AlphaWay::Network(alpha) = self.alpha {
            self.plane(seen, alpha, &Canvas::new(&mut picture, self.margin * factor), Plane::Alpha, 1.0)?;
        }
        if from.channels.has_alpha() {
            match self.alpha {
                AlphaWay::Network(_) => {
                    match_alpha(&mut picture, from)?;
                    settle_alpha(&mut picture, from, factor);
                }
                AlphaWay::Cubic => {
                    let alpha = resample(&alpha_of(from)?, width, height, Resampling::CatmullRom)?;
                    put_alpha(&mut picture, &alpha.into_depth(bits)?);
                }
                // Whole pixels meet no network.
                AlphaWay::Opaque | AlphaWay::Whole => fill_alpha(&mut picture),
            }
        }
        Ok(picture)
    }

    /// A picture whose colours are done.
    fn colours(&self, seen: View<'_>, by: &Ensemble) -> Result<Picture, PipelineError> {
        let View { picture, part } = seen;
        let mut result = picture.blank(part.width * self.factor, part.height * self.factor, self.bits)?;
        let canvas = Canvas::new(&mut result, self.margin * self.factor);
        self.plane(seen, &by.model, &canvas, Plane::Colour, 1.0)?;
        if let Some(mix) = &by.mix {
            self.plane(seen, &mix.model, &canvas, Plane::Colour, mix.share)?;
        }
        Ok(result)
    }

    /// Fills a plane of a canvas, or mixes a share into what is there.
    fn plane(
        &self,
        seen: View<'_>,
        model: &str,
        canvas: &Canvas<'_>,
        plane: Plane,
        share: f32,
    ) -> Result<(), PipelineError> {
        let Loaded { network, note } = self.networks.get(model)?;
        let source = PictureSource::new(seen, self.margin, plane);
        let sink = canvas.sink(plane, network.scale() == 2 * self.factor).mixing(share);
        let pixels = u64::from(source.width()) * u64::from(source.height());
        let started = Instant::now();
        let part = self.meter.begin(model, pixels);
        let notes = enlarger_nn::upscale(&network, &source, &sink, self.options, &|p| part.tick(p))?;
        let took = started.elapsed();
        self.networks.learn(model, pixels, took);
        self.meter.end(part, took);
        self.meter.note(note.into_iter().chain(notes).collect());
        Ok(())
    }
}

/// Progress over all passes, weighted by what each is expected to cost.
struct Meter<'a> {
    watch: &'a dyn Watch,
    started: Instant,
    costs: Costs,
    state: Mutex<MeterState>,
}

#[derive(Default)]
struct MeterState {
    /// Expected cost of the passes that are done.
    before: f64,
    /// The time that they took.
    took: Duration,
    notes: Vec<String>,
}

struct MeterPart<'a> {
    meter: &'a Meter<'a>,
    cost: f64,
    /// Whether that comes from a measurement; otherwise nothing is known of the time until a tile is done.
    measured: bool,
}

impl<'a> Meter<'a> {
    fn new(costs: Costs, watch: &'a dyn Watch) -> Self {
        Self { watch, started: Instant::now(), costs, state: Mutex::default() }
    }

    fn begin(&'a self, model: &str, pixels: u64) -> MeterPart<'a> {
        MeterPart { meter: self, cost: self.costs.of(model, pixels), measured: true }
    }

    fn begin_for(&'a self, cost: Option<f64>) -> MeterPart<'a> {
        MeterPart { meter: self, cost: cost.unwrap_or(UNKNOWN_SECONDS), measured: cost.is_some() }
    }

    fn end(&self, part: MeterPart<'_>, took: Duration) {
        let mut state = self.state.lock().expect("no observer panicked");
        state.before += part.cost;
        state.took += took;
    }

    /// Keeps sentences for the user, each once.
    fn note(&self, notes: Vec<String>) {
        let mut state = self.state.lock().expect("no observer panicked");
        for note in notes {
            if !state.notes.contains(&note) {
                state.notes.push(note);
            }
        }
    }

    /// The time that networks took, and the sentences.
    fn ended(self) -> (Duration, Vec<String>) {
        let state = self.state.into_inner().expect("no observer panicked");
        (state.took, state.notes)
    }
}

impl MeterPart<'_> {
    fn tick(&self, strips: enlarger_nn::RunProgress) -> ControlFlow<()> {
        let meter = self.meter;
        let progress = {
            let state = meter.state.lock().expect("no observer panicked");
            let cost = state.before + self.cost * strips.fraction;
            let fraction = (cost / meter.costs.total).clamp(0.0, 1.0);
            let elapsed = meter.started.elapsed();
            let measured = self.measured || strips.done > 0;
            let known = measured && fraction > 0.005 && elapsed > Duration::from_millis(200);
            let eta_seconds = known.then(|| elapsed.as_secs_f64() * (1.0 - fraction) / fraction);
            let (done, total) = (strips.done as u64, strips.total as u64);
            Progress { stage: Stage::Enlarge, done, total, fraction, eta_seconds }
        };
        meter.watch.progress(&progress);
        if meter.watch.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Gives fully transparent pixels the colour of what is near, so that networks do not draw invisible edges that cause
/// visible halos: colours weighted by alpha are averaged down a pyramid and filled back up (pull-push, Gortler et al.
/// 1996).
fn bleed(picture: &mut Picture) {
    let n = picture.channels.count();
    let colours = n - 1;
    let (w, h) = (picture.width as usize, picture.height as usize);
    let get = |samples: &Samples, i: usize| with_samples!(samples, s => s[i].to_f64() as f32);
    // Level 0 of the pyramid is a quarter of the picture in each direction: colour that far from any edge is unseen.
    let mut level = Level::new(w.div_ceil(2), h.div_ceil(2));
    for y in 0..h {
        for x in 0..w {
            let i = (y * w + x) * n;
            let a = get(&picture.samples, i + colours);
            if a > 0.0 {
                let cell = &mut level.cells[(y / 2) * level.w + x / 2];
                for (c, sum) in cell.iter_mut().take(colours).enumerate() {
                    *sum += a * get(&picture.samples, i + c);
                }
                cell[3] += a;
            }
        }
    }
    let filled = level.filled();
    for y in 0..h {
        for x in 0..w {
            let i = (y * w + x) * n;
            if get(&picture.samples, i + colours) == 0.0 {
                let cell = filled.cells[(y / 2) * filled.w + x / 2];
                for (c, value) in cell.iter().take(colours).enumerate() {
                    with_samples!(&mut picture.samples, s => s[i + c] = Sample::from_float(*value));
                }
            }
        }
    }
}

/// One level of the pyramid: per cell, sums of colour times weight, then the weight.
struct Level {
    w: usize,
    h: usize,
    cells: Vec<[f32; 4]>,
}

impl Level {
    fn new(w: usize, h: usize) -> Self {
        Self { w, h, cells: vec![[0.0; 4]; w * h] }
    }

    /// The same level with a colour in every cell and weight 1.
    fn filled(mut self) -> Self {
        let coarse = (self.w > 1 || self.h > 1).then(|| {
            let mut next = Self::new(self.w.div_ceil(2), self.h.div_ceil(2));
            for y in 0..self.h {
                for x in 0..self.w {
                    let to = (y / 2) * next.w + x / 2;
                    for c in 0..4 {
                        next.cells[to][c] += self.cells[y * self.w + x][c];
                    }
                }
            }
            next.filled()
        });
        for y in 0..self.h {
            for x in 0..self.w {
                let cell = &mut self.cells[y * self.w + x];
                if cell[3] > 0.0 {
                    *cell = [cell[0] / cell[3], cell[1] / cell[3], cell[2] / cell[3], 1.0];
                } else if let Some(coarse) = &coarse {
                    *cell = coarse.cells[(y / 2) * coarse.w + x / 2];
                }
            }
        }
        self
    }
}

/// Brings alpha back to the source's: a network for flat shapes turns a glow into steps, and weakens small opaque
/// parts.
fn match_alpha(picture: &mut Picture, source: &Picture) -> Result<(), ImageError> {
    let (mut alpha, wanted) = (alpha_of(picture)?, alpha_of(source)?);
    let back_projection = Filter::Match { rounds: 2, strength: 1.0, reach: 0 };
    back_projection.apply(&mut alpha, &wanted, View::of(&wanted), 0)?;
    put_alpha(picture, &alpha.into_depth(picture.samples.bits())?);
    Ok(())
}

/// A picture's alpha as a grey picture.
fn alpha_of(picture: &Picture) -> Result<Picture, ImageError> {
    fn take<T: Sample>(from: &[T], to: &mut [T], n: usize) {
        to.iter_mut().zip(from.iter().skip(n - 1).step_by(n)).for_each(|(to, from)| *to = *from);
    }
    let mut alpha = Picture {
        width: picture.width,
        height: picture.height,
        channels: Channels::Gray,
        samples: Samples::zeroed(picture.samples.bits(), u64::from(picture.width) * u64::from(picture.height))?,
        metadata: Metadata::default(),
    };
    let n = picture.channels.count();
    with_samples!(&mut alpha.samples, to => take(picture.samples.of_depth(), to, n));
    Ok(alpha)
}

/// Makes alpha exactly 0 or full where the source and its eight neighbours all are: a network's last percent of error
/// must not make a sky faintly transparent or a cut-out faintly visible.
fn settle_alpha(picture: &mut Picture, source: &Picture, factor: u32) {
    let n = source.channels.count();
    let (sw, sh) = (source.width as i64, source.height as i64);
    let alpha = |x: i64, y: i64| {
        let i = ((y.clamp(0, sh - 1) * sw + x.clamp(0, sw - 1)) as usize) * n + n - 1;
        with_samples!(&source.samples, s => s[i].to_f64())
    };
    for y in 0..sh {
        for x in 0..sw {
            let centre = alpha(x, y);
            if centre != 0.0 && centre != 1.0 {
                continue;
            }
            let all = (-1..=1).all(|dy| (-1..=1).all(|dx| alpha(x + dx, y + dy) == centre));
            if !all {
                continue;
            }
            let (fx, fy) = (x as usize * factor as usize, y as usize * factor as usize);
            for row in fy..fy + factor as usize {
                for column in fx..fx + factor as usize {
                    let i = (row * picture.width as usize + column) * n + n - 1;
                    with_samples!(&mut picture.samples, s => s[i] = if centre == 0.0 { 0 } else { Sample::MAX });
                }
            }
        }
    }
}

fn fill_alpha(picture: &mut Picture) {
    let n = picture.channels.count();
    with_samples!(&mut picture.samples, s => s.iter_mut().skip(n - 1).step_by(n).for_each(|a| *a = Sample::MAX));
}

/// Gives a picture the alpha that a grey one of its size and depth shows.
fn put_alpha(to: &mut Picture, alpha: &Picture) {
    fn put<T: Sample>(to: &mut [T], from: &[T], n: usize) {
        to.iter_mut().skip(n - 1).step_by(n).zip(from).for_each(|(to, from)| *to = *from);
    }
    let n = to.channels.count();
    with_samples!(&mut to.samples, to => put(to, alpha.samples.of_depth(), n));
}
