//! Parts of paths. A handler takes each as a `Result`, so that a part that is not legal is told what would be.

use protos::names;
use rocket::request::FromParam;
use uuid::Uuid;

use crate::error::Error;

/// The label of a queue, in lower case.
pub(super) struct Label(pub(super) String);

impl FromParam<'_> for Label {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        Ok(Self(names::label(given)?))
    }
}

/// The topic or the pattern of a channel, in lower case; `None` for none.
pub(super) struct Topic(pub(super) Option<String>);

impl FromParam<'_> for Topic {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        Ok(Self(names::channel_topic(given)?))
    }
}

/// The id of a channel.
pub(super) struct ChannelId(pub(super) Uuid);

impl FromParam<'_> for ChannelId {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        let id = Uuid::try_parse(given);
        // Long nonsense is not sent back in full.
        let shown = || given.chars().take(64).collect();
        Ok(Self(id.map_err(|_| Error::InvalidChannelId(shown()))?))
    }
}

/// The id of a MoM.
pub(super) struct MomId(pub(super) Uuid);

impl FromParam<'_> for MomId {
    type Error = Error;

    fn from_param(given: &str) -> Result<Self, Error> {
        let id = Uuid::try_parse(given).map_err(|_| Error::InvalidArgument {
            field: "the id of the MoM",
            legal: "a UUID, as GET /moms shows it",
        });
        Ok(Self(id?))
    }
}
