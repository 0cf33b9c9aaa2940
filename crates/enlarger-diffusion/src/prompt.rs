//! Prompts: weights in brackets, tokens, embeddings, chunks.
//!
//! `(x:1.3)` weighs x by 1.3, `(x)` by 1.1, `[x]` by 1 / 1.1; brackets nest; `\(` is a bracket as such; `BREAK` ends a chunk. This
//! is the notation of A1111's users.

use std::collections::BTreeMap;

use instant_clip_tokenizer::Tokenizer as Words;

use crate::{
    clip::{CHUNK, Clip, END, START, Token},
    error::{Error, Result, shortened},
    file::Safetensors,
    ops::Ops,
};

/// Chunks of the longest prompt that is taken: each costs time and memory at every step.
const MOST_CHUNKS: usize = 100;
/// Tokens of a chunk without start and end.
const ROOM: usize = CHUNK - 2;
/// A prompt is longer than any text of meaning: the encoder's time grows with it.
const LONGEST: usize = 20_000;
/// Weights beyond make noise of any picture.
const HEAVIEST: f32 = 10.0;

/// A piece of a prompt with its weight; `None` is a `BREAK`.
pub type Piece = (Option<String>, f32);

/// Cuts a prompt into pieces of one weight each.
///
/// # Errors
/// [`Error::Request`] if it is longer than 20,000 bytes, or a weight is not between -10 and 10.
pub fn pieces(prompt: &str) -> Result<Vec<Piece>> {
    if prompt.len() > LONGEST {
        return Err(Error::Request(format!(
            "a prompt of {} bytes is too long; hint: use at most {LONGEST}",
            prompt.len()
        )));
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut text = String::new();
    let mut chars = prompt.char_indices().peekable();
    fn flush(text: &mut String, pieces: &mut Vec<Piece>) {
        for (i, part) in text.split("BREAK").enumerate() {
            if i > 0 {
                pieces.push((None, 1.0));
            }
            if !part.is_empty() {
                pieces.push((Some(part.to_owned()), 1.0));
            }
        }
        text.clear();
    }
    fn weigh(pieces: &mut [Piece], by: f32) {
        pieces.iter_mut().for_each(|(_, weight)| *weight *= by);
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|(_, c)| "()[]\\".contains(*c)) => {
                text.extend(chars.next().map(|(_, c)| c))
            }
            '(' | '[' => {
                flush(&mut text, &mut pieces);
                open.push((c, pieces.len()));
            }
            ':' if matches!(open.last(), Some(('(', _))) => {
                let rest = &prompt[at + 1..];
                let weight = rest.split_once(')').and_then(|(n, _)| Some((n.len(), n.trim().parse::<f32>().ok()?)));
                match (weight, open.last()) {
                    (Some((length, weight)), Some(&(_, from))) => {
                        if !(-HEAVIEST..=HEAVIEST).contains(&weight) {
                            return Err(Error::Request(format!(
                                "the prompt's weight {weight} is not between -{HEAVIEST} and {HEAVIEST}; hint: 0.5 to 1.5 are usual"
                            )));
                        }
                        flush(&mut text, &mut pieces);
                        weigh(&mut pieces[from..], weight);
                        open.pop();
                        while chars.peek().is_some_and(|&(next, _)| next <= at + 1 + length) {
                            chars.next();
                        }
                    }
                    _ => text.push(c),
                }
            }
            ')' | ']' if open.last().is_some_and(|&(bracket, _)| bracket == if c == ')' { '(' } else { '[' }) => {
                flush(&mut text, &mut pieces);
                if let Some((_, from)) = open.pop() {
                    weigh(&mut pieces[from..], if c == ')' { 1.1 } else { 1.0 / 1.1 });
                }
            }
            _ => text.push(c),
        }
    }
    flush(&mut text, &mut pieces);
    // Brackets that nobody closed count, too.
    for (bracket, from) in open.into_iter().rev() {
        weigh(&mut pieces[from..], if bracket == '(' { 1.1 } else { 1.0 / 1.1 });
    }
    if pieces.iter().any(|(_, weight)| !weight.is_finite() || weight.abs() > HEAVIEST) {
        return Err(Error::Request(format!(
            "nested brackets in the prompt add up to a weight above {HEAVIEST}; hint: close brackets, or write (moss:1.3)"
        )));
    }
    Ok(pieces)
}

/// Vectors that stand for a word, learned by textual inversion: by encoder width.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    vectors: Vec<Vec<Vec<f32>>>,
}

impl Embedding {
    /// Reads `emb_params` (SD 1.x, 2.x), or `clip_l` and `clip_g` (SDXL): `[tokens, width]` each.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the file is not an embedding; files.
    pub fn read(file: &Safetensors) -> Result<Self> {
        let mut vectors = Vec::new();
        for name in ["emb_params", "clip_l", "clip_g"] {
            match file.shape(name) {
                Some(&[count, width]) if (1..=ROOM).contains(&count) && width > 0 => {
                    let values = file.read(name)?.to_f32()?;
                    vectors.push(values.chunks_exact(width).map(<[f32]>::to_vec).collect());
                }
                Some(shape) => {
                    return Err(Error::Unsupported(format!(
                        "{}: {name} is {shape:?}, not 1 to {ROOM} vectors",
                        file.name()
                    )));
                }
                None => {}
            }
        }
        if vectors.is_empty() {
            return Err(Error::Unsupported(format!("{} is not a textual-inversion embedding", file.name())));
        }
        Ok(Self { vectors })
    }

    fn of_width(&self, width: usize) -> Option<&[Vec<f32>]> {
        self.vectors.iter().find(|v| v.first().is_some_and(|v| v.len() == width)).map(Vec::as_slice)
    }
}

/// Makes tokens of words, by CLIP's vocabulary (MIT, of the crate instant-clip-tokenizer).
pub struct Tokenizer {
    words: Words,
    embeddings: BTreeMap<String, Embedding>,
}

/// Chunks of 77 tokens with a weight each.
pub type Chunk = Vec<(Token, f32)>;

impl Default for Tokenizer {
    fn default() -> Self {
        Self { words: Words::new(), embeddings: BTreeMap::new() }
    }
}

impl Tokenizer {
    /// Lets a word of prompts, whatever its case, stand for an embedding: by custom the name of the file.
    pub fn add(&mut self, word: &str, embedding: Embedding) {
        self.embeddings.insert(word.to_lowercase(), embedding);
    }

    /// Tokens of a text, without start and end. Case and spaces do not matter. `<|startoftext|>` and `<|endoftext|>` are the
    /// tokens of that name.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        for (i, part) in text.split("<|endoftext|>").enumerate() {
            tokens.extend((i > 0).then_some(END));
            for (i, part) in part.split("<|startoftext|>").enumerate() {
                tokens.extend((i > 0).then_some(START));
                let mut words = Vec::new();
                self.words.encode(part, &mut words);
                tokens.extend(words.into_iter().map(|t| u32::from(t.to_u16())));
            }
        }
        tokens
    }

    /// Cuts a prompt into chunks for an encoder of a width; the rest of a chunk is `pad`, [`END`] or 0. A prompt without words
    /// is one chunk.
    ///
    /// # Errors
    /// [`Error::Request`] as [`pieces`], and for an embedding of another width.
    pub fn chunks(&self, prompt: &str, width: usize, pad: u32) -> Result<Vec<Chunk>> {
        self.chunks_of(&pieces(prompt)?, width, pad)
    }

    /// The same for a prompt that is cut into pieces.
    ///
    /// # Errors
    /// [`Error::Request`] for an embedding of another width.
    pub fn chunks_of(&self, pieces: &[Piece], width: usize, pad: u32) -> Result<Vec<Chunk>> {
        let mut chunks: Vec<Chunk> = vec![Vec::new()];
        let mut comma = None;
        for (text, weight) in pieces {
            let Some(text) = text else {
                chunks.push(Vec::new());
                comma = None;
                continue;
            };
            for group in self.groups(text, width)? {
                let last = chunks.last_mut().expect("there is a chunk");
                if last.len() + group.len() > ROOM {
                    // What follows the last comma moves along, if it is short.
                    let cut = comma.filter(|&at| last.len() - at <= 20 && last.len() - at + group.len() <= ROOM);
                    let moved = cut.map(|at| last.split_off(at)).unwrap_or_default();
                    chunks.push(moved);
                    comma = None;
                }
                let last = chunks.last_mut().expect("there is a chunk");
                let is_comma = group == [Token::Word(COMMA)];
                last.extend(group.into_iter().map(|token| (token, *weight)));
                if is_comma {
                    comma = Some(last.len());
                }
            }
        }
        if chunks.len() > MOST_CHUNKS {
            let count = chunks.len();
            return Err(Error::Request(format!(
                "a prompt can have {MOST_CHUNKS} chunks of 75 tokens, and this one has {count}; hint: shorten it, or use BREAK less often"
            )));
        }
        for chunk in &mut chunks {
            chunk.insert(0, (Token::Word(START), 1.0));
            chunk.push((Token::Word(END), 1.0));
            chunk.resize(CHUNK, (Token::Word(pad), 1.0));
        }
        Ok(chunks)
    }

    /// Tokens that must stay in one chunk: one word's token, or all vectors of an embedding.
    fn groups(&self, text: &str, width: usize) -> Result<Vec<Vec<Token>>> {
        let mut groups = Vec::new();
        let mut plain = String::new();
        let words = |plain: &mut String, groups: &mut Vec<Vec<Token>>| {
            groups.extend(self.tokens(plain).into_iter().map(|t| vec![Token::Word(t)]));
            plain.clear();
        };
        for word in text.split_inclusive(|c: char| c.is_whitespace() || c == ',') {
            let whole = word.trim_end_matches(|c: char| c.is_whitespace() || c == ',');
            // ComfyUI's notation.
            let name = whole.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX));
            let name = name.map_or(whole, |start| &whole[start.len()..]);
            let Some(embedding) = self.embeddings.get(&name.to_lowercase()) else {
                plain.push_str(&word[whole.len() - name.len()..]);
                continue;
            };
            words(&mut plain, &mut groups);
            let vectors = embedding.of_width(width).ok_or_else(|| {
                Error::Request(format!(
                    "the embedding {} is for a different model family than the checkpoint",
                    shortened(name)
                ))
            })?;
            groups.push(vectors.iter().cloned().map(Token::Vector).collect());
            plain.push_str(&word[whole.len()..]);
        }
        words(&mut plain, &mut groups);
        Ok(groups)
    }
}

/// What ComfyUI's users write before the name of an embedding.
const PREFIX: &str = "embedding:";

/// The token of a comma.
const COMMA: u32 = 267;

/// Hidden states of a prompt, `[77 chunks, width]`, and the pooled text of its first chunk.
pub struct Prompt {
    /// Row after row.
    pub hidden: Vec<f32>,
    /// Only of encoders with a projection.
    pub pooled: Option<Vec<f32>>,
}

/// Encodes chunks and weighs them: states are multiplied by the weights, then by what brings the chunk's mean back.
///
/// # Errors
/// As [`Clip::encode`].
pub fn encode<O: Ops>(ops: &O, clip: &Clip<O>, chunks: &[Chunk], skip: usize, normed: bool) -> Result<Prompt> {
    let mut prompt = Prompt { hidden: Vec::new(), pooled: None };
    for chunk in chunks {
        let (tokens, weights): (Vec<Token>, Vec<f32>) = chunk.iter().cloned().unzip();
        let encoded = clip.encode(ops, &tokens, skip, normed)?;
        let mut hidden = ops.download(&encoded.hidden)?;
        weigh(&mut hidden, &weights);
        prompt.hidden.append(&mut hidden);
        prompt.pooled = prompt.pooled.or(encoded.pooled);
    }
    Ok(prompt)
}

fn weigh(hidden: &mut [f32], weights: &[f32]) {
    if weights.iter().all(|&w| w == 1.0) {
        return;
    }
    let mean = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    let before = mean(hidden);
    let width = hidden.len() / weights.len();
    hidden.chunks_exact_mut(width).zip(weights).for_each(|(row, w)| row.iter_mut().for_each(|v| *v *= w));
    let ratio = before / mean(hidden);
    if ratio.is_finite() {
        hidden.iter_mut().for_each(|v| *v = (f64::from(*v) * ratio) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(prompt: &str) -> Vec<(String, f32)> {
        pieces(prompt)
            .unwrap()
            .into_iter()
            .map(|(t, w)| (t.unwrap_or("|".into()), (w * 1000.0).round() / 1000.0))
            .collect()
    }

    #[test]
    fn brackets_weigh_what_they_hold() {
        let one = |text: &str, weight: f32| vec![(text.to_owned(), weight)];
        assert_eq!(cut("a cat"), one("a cat", 1.0));
        assert_eq!(cut("(a cat:1.3)"), one("a cat", 1.3));
        assert_eq!(cut("((a cat))"), one("a cat", 1.21));
        assert_eq!(cut("[a cat]"), one("a cat", 0.909));
        assert_eq!(cut("(a ratio of 4:3)"), [("a ratio of 4".to_owned(), 3.0)]);
        assert_eq!(cut(r"\(a cat\)"), one("(a cat)", 1.0));
        assert_eq!(cut("a) cat]"), one("a) cat]", 1.0));
        assert_eq!(cut("(open"), one("open", 1.1));
        assert_eq!(cut("12:30 o'clock"), one("12:30 o'clock", 1.0));
        assert_eq!(cut("(a (b:2) c:0.5)"), [("a ".into(), 0.5), ("b".into(), 1.0), (" c".into(), 0.5)]);
        assert_eq!(cut("x BREAK y"), [("x ".into(), 1.0), ("|".into(), 1.0), (" y".into(), 1.0)]);
        assert_eq!(cut("(worst quality, low quality:2)"), one("worst quality, low quality", 2.0));
        assert!(cut("()").is_empty() && cut("").is_empty());
    }

    #[test]
    fn weights_and_lengths_without_sense_are_refused() {
        for prompt in ["(x:1e9)", "(x:-11)", "(x:nan)", "(x:inf)"] {
            assert!(matches!(pieces(prompt), Err(Error::Request(_))), "{prompt}");
        }
        assert!(pieces(&"(".repeat(400)).is_ok(), "brackets around nothing weigh nothing");
        assert!(pieces(&format!("{}x", "(".repeat(400))).is_err());
        assert!(pieces(&"word ".repeat(10_000)).unwrap_err().to_string().contains("50000 bytes"));
    }

    #[test]
    fn long_prompts_fill_chunks_and_cut_at_commas() {
        let tokenizer = Tokenizer::default();
        let chunks = tokenizer.chunks("", 32, END).unwrap();
        assert_eq!((chunks.len(), chunks[0].len(), &chunks[0][1].0), (1, CHUNK, &Token::Word(END)));
        let chunks = tokenizer.chunks(&"cat ".repeat(76), 32, 0).unwrap();
        assert_eq!(chunks.len(), 2);
        assert_eq!(
            (&chunks[0][76].0, &chunks[1][2].0, &chunks[1][3].0),
            (&Token::Word(END), &Token::Word(END), &Token::Word(0))
        );
        // 73 words, a comma, and two words that stay together.
        let chunks = tokenizer.chunks(&format!("{}, dog dog", "cat ".repeat(73)), 32, END).unwrap();
        assert_eq!(chunks[0].iter().filter(|(t, _)| *t == Token::Word(1929)).count(), 0);
        assert_eq!(chunks[1].iter().filter(|(t, _)| *t == Token::Word(1929)).count(), 2);
    }

    #[test]
    fn an_embedding_takes_the_place_of_its_word() {
        let mut tokenizer = Tokenizer::default();
        tokenizer.add("BadHands", Embedding { vectors: vec![vec![vec![0.5; 32], vec![0.25; 32]]] });
        let chunk = &tokenizer.chunks("(badhands, x:0.5)", 32, END).unwrap()[0];
        assert_eq!(chunk[1], (Token::Vector(vec![0.5; 32]), 0.5));
        assert_eq!(chunk[2], (Token::Vector(vec![0.25; 32]), 0.5));
        assert_eq!(chunk[3], (Token::Word(COMMA), 0.5));
        assert!(tokenizer.chunks("badhands", 768, END).unwrap_err().to_string().contains("a different model family"));
        assert!(tokenizer.chunks("badhandsome", 768, END).is_ok());
        let of_comfyui = &tokenizer.chunks("(Embedding:BadHands, x:0.5)", 32, END).unwrap()[0];
        assert_eq!(of_comfyui, chunk);
        let unknown = tokenizer.chunks("embedding:moss", 32, END).unwrap();
        assert_eq!(unknown, tokenizer.chunks("moss", 32, END).unwrap());
    }

    #[test]
    fn weighing_keeps_the_mean() {
        let mut hidden = vec![1.0, 3.0, 2.0, 2.0];
        weigh(&mut hidden, &[1.0, 3.0]);
        assert_eq!(hidden, [0.5, 1.5, 3.0, 3.0]);
    }
}
