//! Everything that a person sees. Standard output is data; everything else goes to standard error.

use std::{
    borrow::Cow,
    io::IsTerminal,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use enlarger_error::Explained;
use enlarger_image::ImageError;
use enlarger_models::ModelError;
use enlarger_nn::NnError;
use enlarger_pipeline::{PipelineError, Progress, Stage, human_seconds};
use enlarger_server::{ConfigError, ServeError};
use enlarger_tasks::StoreError;

/// Prints an error with all its causes and hints.
pub fn error(error: &anyhow::Error) {
    say!("error: {}", harmless(&sentence(error)));
    if let Some(hint) = hint_of(error) {
        say!("hint: {hint}");
    }
}

/// A text without what moves a terminal's cursor or changes its colors, as names of files may have it.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// An error and its causes in one sentence. Many errors include their cause already, so nothing is repeated.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(|cause| without_number(&cause.to_string())) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// Why something could not be read or written.
pub fn reason(error: &std::io::Error) -> String {
    without_number(&error.to_string())
}

/// Without the system's numbers, as in "No such file or directory (os error 2)".
pub fn without_number(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(start) = text.find(" (os error ") {
        let Some(length) = text[start..].find(')') else { break };
        text.replace_range(start..=start + length, "");
    }
    text
}

/// The exit code after an error.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return hinted.code;
    }
    // A setting is a part of the command line, wherever it is written.
    let wrong_setting = error.is::<ConfigError>() || matches!(error.downcast_ref(), Some(ServeError::Config(_)));
    if wrong_setting { 2 } else { 1 }
}

/// The hint of the outermost error that has one.
pub fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| explained(cause)?.hint()).map(Cow::into_owned)
}

/// An error of ours as such. `anyhow` keeps types, and not the traits that they have.
fn explained<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a dyn Explained> {
    macro_rules! one_of {
        ($($error:ty),+) => { None$(.or_else(|| error.downcast_ref::<$error>().map(|error| error as &dyn Explained)))+ };
    }
    one_of!(Hinted, PipelineError, ModelError, ImageError, NnError, ServeError, ConfigError, StoreError)
}

/// A sentence and what to do about it.
#[derive(Debug)]
pub struct Hinted {
    what: String,
    hint: String,
    code: u8,
}

impl Hinted {
    /// An error for `anyhow` from both.
    pub fn error(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { what: what.into(), hint: hint.into(), code: 1 })
    }

    /// The same for a usage error.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { what: what.into(), hint: hint.into(), code: 2 })
    }
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Hinted {}

impl Explained for Hinted {
    fn code(&self) -> &'static str {
        if self.code == 2 { "usage" } else { "failed" }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(self.hint.as_str().into())
    }
}

/// The display of a batch: a bar per file and one for all on a terminal, a line per event elsewhere.
pub struct Batch {
    bars: Option<(MultiProgress, ProgressBar)>,
    quiet: bool,
    total: usize,
    /// Of the pictures that failed, the first name for each hint and whether there are more.
    hints: Mutex<Vec<(String, String, bool)>>,
}

impl Batch {
    /// `total` files are to come; 0 is any number, one after the other. `quiet` shows errors only.
    pub fn new(total: usize, quiet: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            let all = multi.add(ProgressBar::new(total as u64));
            all.set_style(style("{bar:24} {pos}/{len} images, {elapsed} elapsed"));
            // A single picture needs no second bar.
            match total {
                0 | 1 => multi.remove(&all),
                _ => all.enable_steady_tick(Duration::from_millis(250)),
            }
            (multi, all)
        });
        Self { bars, quiet, total, hints: Mutex::default() }
    }

    /// A file is begun; `index` counts from 0.
    pub fn begin(&self, index: usize, name: &str) -> File<'_> {
        let name = &*harmless(name).replace('\n', "\u{fffd}");
        let bar = self.bars.as_ref().map(|(multi, all)| {
            let bar = ProgressBar::new(1000);
            let bar = if self.total < 2 { multi.add(bar) } else { multi.insert_before(all, bar) };
            // The name comes last, where it can be cut off if the terminal is narrow.
            bar.set_style(style("{bar:16} {percent:>3}%  {prefix:>15}  {wide_msg}"));
            bar.set_message(Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        if bar.is_none() && !self.quiet {
            match self.total {
                0 => say!("{name}"),
                total => say!("[{}/{total}] {name}", index + 1),
            }
        }
        File { batch: self, bar, name: name.to_owned(), said: Mutex::new(Instant::now()) }
    }

    /// A line that stays, unless only errors are wanted.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// A line that stays, quiet or not.
    pub fn say(&self, text: &str) {
        let text = harmless(text);
        match &self.bars {
            Some((multi, _)) => multi.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    /// An error that stays, quiet or not. Its hint comes at the end, where it is said once for all that have the same.
    pub fn fail(&self, name: &str, error: &anyhow::Error) {
        self.say(&format!("error: {name}: {}", sentence(error)));
        let Some(hint) = hint_of(error) else { return };
        let mut hints = self.hints.lock().expect("nothing panics with it");
        match hints.iter_mut().find(|(known, ..)| *known == hint) {
            Some((.., more)) => *more = true,
            None => hints.push((hint, name.to_owned(), false)),
        }
    }

    /// The batch is finished: removes the bars and prints the hints.
    pub fn finish(&self) {
        if let Some((multi, all)) = &self.bars {
            all.finish_and_clear();
            let _ = multi.clear();
        }
        let hints = self.hints.lock().expect("nothing panics with it");
        for (hint, name, more) in hints.iter() {
            // The name is left out if there is only one hint, or if several images share it.
            match *more || hints.len() == 1 {
                true => say!("hint: {hint}"),
                false => say!("hint: {name}: {hint}"),
            }
        }
    }
}

/// The display of one file.
pub struct File<'a> {
    batch: &'a Batch,
    bar: Option<ProgressBar>,
    name: String,
    said: Mutex<Instant>,
}

impl File<'_> {
    /// Shows a report.
    pub fn progress(&self, p: &Progress) {
        let left = p.eta_seconds.map(|s| format!("{} left", human_seconds(s))).unwrap_or_default();
        if let Some(bar) = &self.bar {
            bar.set_position((p.fraction * 1000.0) as u64);
            bar.set_prefix(match p.stage {
                Stage::Enlarge => left,
                Stage::Decode => "reading".into(),
                Stage::Plan => "planning".into(),
                Stage::Encode => "writing".into(),
            });
        } else if !self.batch.quiet && p.stage == Stage::Enlarge && p.eta_seconds.is_some() {
            // A log wants a sign of life, not one line per strip.
            let mut said = self.said.lock().expect("printing does not panic");
            if said.elapsed() >= Duration::from_secs(10) {
                *said = Instant::now();
                say!("      {} {:.0}%, {left}", self.name, p.fraction * 100.0);
            }
        }
    }

    /// The file is done, one way or the other.
    pub fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some((_, all)) = &self.batch.bars {
            all.inc(1);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants").progress_chars("━╸ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_do_not_reach_the_terminal_as_commands() {
        assert_eq!(harmless("a\u{1b}[2Jb\r.png\nhint"), "a\u{fffd}[2Jb\u{fffd}.png\nhint");
    }
}
