//! The names of blobs.

use std::fmt;

use uuid::Uuid;

/// The name of a blob. Its text, which appears in URLs, is `tasks/ID/NAME` or `objects/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The image that a task reads.
    Source(Uuid),
    /// A task's result: `result-ATTEMPT.EXTENSION`.
    Result(Uuid, String),
    /// The difference map of an attempt's result.
    Map(Uuid, u32),
    /// A small copy of a task's source: JPEG, or PNG if it is transparent.
    Thumb(Uuid),
    /// An upload.
    Object(Uuid),
}

impl Key {
    /// The result of an attempt.
    pub fn result(task: Uuid, attempt: u32, extension: &str) -> Self {
        Self::Result(task, format!("result-{attempt}.{extension}"))
    }

    /// The task that the blob belongs to.
    pub fn task(&self) -> Option<Uuid> {
        match self {
            Self::Source(task) | Self::Result(task, _) | Self::Map(task, _) | Self::Thumb(task) => Some(*task),
            Self::Object(_) => None,
        }
    }

    /// The attempt that made the blob.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::Result(_, name) => name.strip_prefix("result-")?.split('.').next()?.parse().ok(),
            Self::Map(_, attempt) => Some(*attempt),
            Self::Source(_) | Self::Thumb(_) | Self::Object(_) => None,
        }
    }

    /// Parses a key. Rejects anything that could lead elsewhere.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (class, id, name) = (parts.next()?, parts.next()?.parse::<Uuid>().ok()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        match (class, name) {
            ("objects", None) => Some(Self::Object(id)),
            ("tasks", Some(name)) => Self::of_task(id, name),
            _ => None,
        }
    }

    /// The key of a task's blob with this name.
    pub fn of_task(task: Uuid, name: &str) -> Option<Self> {
        match name {
            "source" => Some(Self::Source(task)),
            "thumb" => Some(Self::Thumb(task)),
            result if is_result(result) => Some(Self::Result(task, result.to_owned())),
            map => Some(Self::Map(task, map.strip_prefix("map-")?.strip_suffix(".png")?.parse().ok()?)),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(task) => write!(f, "tasks/{task}/source"),
            Self::Result(task, name) => write!(f, "tasks/{task}/{name}"),
            Self::Map(task, attempt) => write!(f, "tasks/{task}/map-{attempt}.png"),
            Self::Thumb(task) => write!(f, "tasks/{task}/thumb"),
            Self::Object(id) => write!(f, "objects/{id}"),
        }
    }
}

/// `result-ATTEMPT.EXTENSION`.
fn is_result(name: &str) -> bool {
    let parts = name.strip_prefix("result-").and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(attempt, extension)| {
        attempt.parse::<u32>().is_ok() && !extension.is_empty() && extension.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x5b9a);

    #[test]
    fn keys_survive_being_written_and_read() {
        let keys = [Key::Source(ID), Key::result(ID, 2, "png"), Key::Map(ID, 2), Key::Thumb(ID), Key::Object(ID)];
        for key in keys {
            assert_eq!(Key::parse(&key.to_string()).as_ref(), Some(&key), "{key}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_not_a_key() {
        for name in
            ["..", "../x", "result-2./../x", "result-2.png/x", "result-.png", "result-2.", "map-x.png", "", "lock"]
        {
            assert_eq!(Key::parse(&format!("tasks/{ID}/{name}")), None, "{name}");
        }
        for text in ["objects/../x", "tasks/x/source", "tmp/x", "", "/", "objects"] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }

    #[test]
    fn results_and_maps_know_their_attempt() {
        assert_eq!(Key::result(ID, 12, "webp").attempt(), Some(12));
        assert_eq!(Key::Map(ID, 3).attempt(), Some(3));
        assert_eq!(Key::Source(ID).attempt(), None);
    }
}
