//! Why ComfyUI drew nothing, in sentences that do not say where it is: clients of a server read them.

use std::borrow::Cow;

use enlarger_egress::{EgressError, Unanswered};
use enlarger_error::Explained;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("the address of ComfyUI is not usable: {0}")]
    Address(EgressError),
    /// The file is not a workflow, or lacks a place.
    #[error("{what}")]
    Workflow {
        /// The sentence.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// It cannot be reached, or answers too late.
    #[error("ComfyUI cannot be reached: {0}")]
    Unreachable(Unanswered),
    /// A server in front of it answers that it is down, with this status.
    #[error("ComfyUI cannot be reached: a proxy in front of it answers with status {0}")]
    Down(u16),
    /// Something in front of it asks who calls, with this status.
    #[error("ComfyUI cannot be used: a proxy in front of it asks for a login (status {0})")]
    Login(u16),
    /// What answers is not ComfyUI, or is broken.
    #[error("ComfyUI sent an unexpected response to {asked}: {why}")]
    Nonsense {
        /// What it was asked.
        asked: &'static str,
        /// What is wrong with the answer.
        why: String,
    },
    /// It does not have these kinds of nodes.
    #[error("ComfyUI lacks nodes that the workflow uses: {0}")]
    Nodes(String),
    /// It does not have a file, or a choice is open.
    #[error("{what}")]
    Choice {
        /// The sentence.
        what: String,
        /// What there is.
        hint: String,
    },
    /// It refused the workflow.
    #[error("ComfyUI refused the workflow {0}")]
    Refused(String),
    /// A node failed.
    #[error("the node {node} failed in ComfyUI: {message}")]
    Node {
        /// Its title or kind.
        node: String,
        /// What it said.
        message: String,
    },
    /// Somebody else stopped it.
    #[error("somebody interrupted the workflow in ComfyUI")]
    Interrupted,
    /// It forgot what it was to run.
    #[error("ComfyUI no longer knows the workflow that it was running: it was restarted, or its queue was cleared")]
    Forgotten,
    /// Stopped from here.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // A certificate, or another program, stays as it is until somebody changes it.
            Self::Unreachable(why) => !matches!(why, Unanswered::Tls(_) | Unanswered::Protocol),
            Self::Down(_) | Self::Forgotten | Self::Interrupted => true,
            _ => false,
        }
    }
}

impl Explained for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Address(_) => "comfyui_address",
            Self::Workflow { .. } => "comfyui_workflow",
            Self::Unreachable(_) | Self::Down(_) => "comfyui_unreachable",
            Self::Login(_) => "comfyui_login",
            Self::Nonsense { .. } => "comfyui_nonsense",
            Self::Nodes(_) => "comfyui_nodes",
            Self::Choice { .. } => "comfyui_choice",
            Self::Refused(_) => "comfyui_refused",
            Self::Node { .. } => "comfyui_node",
            Self::Interrupted => "comfyui_interrupted",
            Self::Forgotten => "comfyui_forgotten",
            Self::Cancelled => "cancelled",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Address(_) => "give it as http://HOST:PORT, such as http://127.0.0.1:8188".into(),
            Self::Workflow { hint, .. } | Self::Choice { hint, .. } => hint.into(),
            Self::Unreachable(why) => match why {
                Unanswered::Name | Unanswered::Protocol => "correct the address given to `generator`",
                Unanswered::Tls(_) => {
                    "ComfyUI itself speaks http: give `generator` an http address, or install a certificate that Mozilla's roots vouch for"
                }
                Unanswered::Timeout(_) => "check that ComfyUI responds in a browser, and that no firewall is in between",
                Unanswered::Refused | Unanswered::Connection | Unanswered::TooLarge(_) => {
                    "start ComfyUI, or correct the address given to `generator`"
                }
            }
            .into(),
            Self::Down(_) => "start ComfyUI, or correct the proxy in front of it".into(),
            Self::Login(_) => "enlarger cannot log in: give `generator` an address behind that proxy".into(),
            Self::Nonsense { .. } => "check that the address given to `generator` is that of ComfyUI itself".into(),
            Self::Nodes(_) => "install the custom nodes that the workflow uses, or update ComfyUI".into(),
            Self::Refused(_) => "open the workflow in ComfyUI and run it there; its nodes show what is missing".into(),
            Self::Node { .. } => "run the workflow in ComfyUI with an image of the same size; its log says more".into(),
            Self::Interrupted | Self::Forgotten => "start it again".into(),
            Self::Cancelled => return None,
        })
    }
}
