//! A reader of pickles that knows tensors and plain values, and refuses everything else.
//!
//! Python's pickle is a program for a small stack machine that may call any function. This machine has the opcodes that
//! PyTorch writes (protocols 2 to 4, `pickletools`), and the only "calls" it understands are those that stand for a
//! tensor, a parameter or an ordered dictionary. Values live in an arena, so that hostile nesting cannot exhaust the
//! stack.

use crate::error::NnError;

/// A value: plain, or a place in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Node(usize),
    Mark,
}

/// A value that owns something.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Text(String),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A class or function by its full name; never called.
    Global(Known),
    Storage(Storage),
    Tensor {
        storage: Storage,
        offset: usize,
        size: Vec<usize>,
        stride: Vec<usize>,
    },
}

/// A block of numbers that tensors look into.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    pub key: String,
    pub dtype: Dtype,
    pub length: usize,
}

/// What a storage's numbers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    /// Whole numbers of this many bytes.
    Whole(usize),
}

impl Dtype {
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Whole(bytes) => bytes,
        }
    }
}

/// The names that are understood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    OrderedDict,
    Tensor,
    Parameter,
    Size,
    Storage(Dtype),
}

impl Known {
    fn find(module: &str, name: &str) -> Result<Self, NnError> {
        Ok(match (module, name) {
            ("collections" | "typing", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch", "Size") => Self::Size,
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::Bf16),
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "LongStorage") => Self::Storage(Dtype::Whole(8)),
            ("torch", "IntStorage") => Self::Storage(Dtype::Whole(4)),
            ("torch", "ShortStorage") => Self::Storage(Dtype::Whole(2)),
            ("torch", "ByteStorage" | "CharStorage" | "BoolStorage") => Self::Storage(Dtype::Whole(1)),
            _ => {
                let name: String = format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect();
                return Err(NnError::Format(format!(
                    "the PyTorch file contains code ({name}), which enlarger never runs; export the weights only, ideally as safetensors"
                )));
            }
        })
    }
}

/// Where values live.
#[derive(Debug, Default)]
pub struct Arena(Vec<Node>);

impl Arena {
    fn add(&mut self, node: Node) -> Value {
        self.0.push(node);
        Value::Node(self.0.len() - 1)
    }

    pub fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(at) => self.0.get(at),
            _ => None,
        }
    }

    pub fn text(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::List(items)) => Some(items),
            _ => None,
        }
    }

    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(items)) => Some(items),
            _ => None,
        }
    }

    /// Every storage that a tensor uses, once, with its size in bytes.
    pub fn storage_sizes(&self) -> Result<Vec<(String, u64)>, NnError> {
        let mut sizes: Vec<(String, u64)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut total = 0u64;
        for node in &self.0 {
            if let Node::Tensor { storage, .. } = node
                && seen.insert(&storage.key)
            {
                let bytes = storage.length as u64 * storage.dtype.bytes() as u64;
                total = total.saturating_add(bytes);
                if total > crate::tensor::MAX_BYTES {
                    return Err(NnError::Format("the PyTorch file declares more values than it can hold".into()));
                }
                sizes.push((storage.key.clone(), bytes));
            }
        }
        Ok(sizes)
    }
}

/// Reads one pickle from the beginning of `bytes`; returns its value and what follows.
///
/// # Errors
/// [`NnError::Format`] if it is damaged, or contains code to run.
pub fn unpickle<'a>(bytes: &'a [u8], arena: &mut Arena) -> Result<(Value, &'a [u8]), NnError> {
    let mut machine = Machine { rest: bytes, arena, stack: Vec::new(), memo: Vec::new() };
    let value = machine.run()?;
    Ok((value, machine.rest))
}

struct Machine<'a, 'b> {
    rest: &'a [u8],
    arena: &'b mut Arena,
    stack: Vec<Value>,
    memo: Vec<Value>,
}

fn broken() -> NnError {
    NnError::Format("the PyTorch file is damaged: its pickle cannot be parsed".into())
}

impl<'a> Machine<'a, '_> {
    fn run(&mut self) -> Result<Value, NnError> {
        loop {
            match self.take(1)?[0] {
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.stack.push(Value::Mark),
                b'0' => drop(self.pop()?),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let b = self.take(4)?;
                    self.stack.push(Value::Int(i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Float);
                }
                b'X' => self.string(4)?,
                0x8c | b'U' | b'C' => self.string(1)?,
                0x8d => self.string(8)?,
                b'T' | b'B' => self.string(4)?,
                b'}' => self.push(Node::Dict(Vec::new())),
                b']' => self.push(Node::List(Vec::new())),
                b')' => self.push(Node::List(Vec::new())),
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' | b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::List(items));
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::Dict(pairs(&items)));
                }
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                0x94 => {
                    let top = self.top()?;
                    self.memo.push(top);
                }
                b'h' => self.get(1)?,
                b'j' => self.get(4)?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.extend_dict(vec![(key, value)])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(pairs(&items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let known = Known::find(&module, &name)?;
                    self.push(Node::Global(known));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |v| self.arena.text(v).map(str::to_owned).ok_or_else(broken);
                    let known = Known::find(&text(module)?, &text(name)?)?;
                    self.push(Node::Global(known));
                }
                b'Q' => self.persistent()?,
                b'R' | 0x81 => self.reduce()?,
                // The state of an ordered dictionary is bookkeeping of its versions.
                b'b' => drop(self.pop()?),
                _ => return Err(broken()),
            }
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], NnError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(broken)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned little-endian number of up to 8 bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, NnError> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn integer(&mut self, bytes: usize) -> Result<(), NnError> {
        let n = self.number(bytes)?;
        self.stack.push(Value::Int(i64::try_from(n).map_err(|_| broken())?));
        Ok(())
    }

    /// A length, then as many bytes of a signed number; longer ones are kept as "some number".
    fn long(&mut self) -> Result<(), NnError> {
        let bytes = self.take(1)?[0] as usize;
        if bytes > 8 {
            self.take(bytes)?;
            self.stack.push(Value::Float);
            return Ok(());
        }
        let n = self.number(bytes)?;
        let shift = 64 - 8 * bytes as u32;
        self.stack.push(Value::Int(if bytes == 0 { 0 } else { (n << shift) as i64 >> shift }));
        Ok(())
    }

    fn string(&mut self, length_bytes: usize) -> Result<(), NnError> {
        let length = usize::try_from(self.number(length_bytes)?).map_err(|_| broken())?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Node::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Result<String, NnError> {
        let end = self.rest.iter().take(1000).position(|&b| b == b'\n').ok_or_else(broken)?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn push(&mut self, node: Node) {
        let value = self.arena.add(node);
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value, NnError> {
        self.stack.pop().ok_or_else(broken)
    }

    fn top(&self) -> Result<Value, NnError> {
        self.stack.last().copied().ok_or_else(broken)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, NnError> {
        let mark = self.stack.iter().rposition(|v| *v == Value::Mark).ok_or_else(broken)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn tuple(&mut self, n: usize) -> Result<(), NnError> {
        let start = self.stack.len().checked_sub(n).ok_or_else(broken)?;
        let items = self.stack.split_off(start);
        self.push(Node::List(items));
        Ok(())
    }

    fn put(&mut self, bytes: usize) -> Result<(), NnError> {
        let at = self.number(bytes)? as usize;
        // Pickles number their memo from 0 up; a number far beyond is an attempt to exhaust memory.
        if at > self.memo.len() + 1000 {
            return Err(broken());
        }
        if at >= self.memo.len() {
            self.memo.resize(at + 1, Value::None);
        }
        self.memo[at] = self.top()?;
        Ok(())
    }

    fn get(&mut self, bytes: usize) -> Result<(), NnError> {
        let at = self.number(bytes)? as usize;
        let value = *self.memo.get(at).ok_or_else(broken)?;
        self.stack.push(value);
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<(Value, Value)>) -> Result<(), NnError> {
        match self.top()? {
            Value::Node(at) => match &mut self.arena.0[at] {
                Node::Dict(dict) => dict.extend(items),
                _ => return Err(broken()),
            },
            _ => return Err(broken()),
        }
        Ok(())
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Result<(), NnError> {
        match self.top()? {
            Value::Node(at) => match &mut self.arena.0[at] {
                Node::List(list) => list.extend(items),
                _ => return Err(broken()),
            },
            _ => return Err(broken()),
        }
        Ok(())
    }

    /// `("storage", class, key, device, length, ..)`
    fn persistent(&mut self) -> Result<(), NnError> {
        let id = self.pop()?;
        let storage = match self.arena.list(id) {
            Some([tag, class, key, _, Value::Int(length), ..]) if self.arena.text(*tag) == Some("storage") => {
                match (self.arena.node(*class), self.arena.text(*key), usize::try_from(*length)) {
                    (Some(Node::Global(Known::Storage(dtype))), Some(key), Ok(length)) => {
                        Storage { key: key.to_owned(), dtype: *dtype, length }
                    }
                    _ => return Err(broken()),
                }
            }
            _ => return Err(broken()),
        };
        self.push(Node::Storage(storage));
        Ok(())
    }

    /// What stands for a call: a known name, and its arguments.
    fn reduce(&mut self) -> Result<(), NnError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Some(Node::Global(known)) = self.arena.node(function) else { return Err(broken()) };
        let known = *known;
        let arguments = self.arena.list(arguments).ok_or_else(broken)?.to_vec();
        match (known, arguments.as_slice()) {
            (Known::OrderedDict, []) => self.push(Node::Dict(Vec::new())),
            (Known::OrderedDict, [list, ..]) => {
                let items = self.arena.list(*list).ok_or_else(broken)?.to_vec();
                let pair = |v: &Value| match self.arena.list(*v) {
                    Some([key, value]) => Ok((*key, *value)),
                    _ => Err(broken()),
                };
                let dict = items.iter().map(pair).collect::<Result<_, _>>()?;
                self.push(Node::Dict(dict));
            }
            (Known::Parameter, [tensor, ..]) => self.stack.push(*tensor),
            (Known::Size, [sides]) => self.stack.push(*sides),
            (Known::Tensor, [storage, Value::Int(offset), size, stride, ..]) => {
                let numbers = |v: Value| {
                    let side = |v: &Value| match v {
                        Value::Int(n) => usize::try_from(*n).map_err(|_| broken()),
                        _ => Err(broken()),
                    };
                    let sides = self.arena.list(v).ok_or_else(broken)?;
                    if sides.len() > 8 { Err(broken()) } else { sides.iter().map(side).collect::<Result<Vec<_>, _>>() }
                };
                let Some(Node::Storage(storage)) = self.arena.node(*storage) else { return Err(broken()) };
                let node = Node::Tensor {
                    storage: storage.clone(),
                    offset: usize::try_from(*offset).map_err(|_| broken())?,
                    size: numbers(*size)?,
                    stride: numbers(*stride)?,
                };
                self.push(node);
            }
            _ => return Err(broken()),
        }
        Ok(())
    }
}

fn pairs(items: &[Value]) -> Vec<(Value, Value)> {
    items.chunks_exact(2).map(|p| (p[0], p[1])).collect()
}
