//! What all messages have in common, and the enums that are made of them.
#![deny(clippy::indexing_slicing)]

use super::{CORE_EXTENSION_TYPE, EncodeError, EncodedMessage, MessageError};

/// One kind of message: what its header says, and its fields.
pub(super) trait Kind<'a>: Sized {
    /// As the specification calls it.
    const NAME: &'static str;
    /// The extension that defines it.
    const EXTENSION_TYPE: u16 = CORE_EXTENSION_TYPE;
    /// Its number in that extension.
    const MSG_TYPE: u8;
    /// Whether it is for one channel, so that its payload starts with a channel id (SV2 3.2).
    const CHANNEL_MSG: bool = false;

    /// Takes a payload apart.
    fn decode(payload: &'a [u8]) -> Result<Self, MessageError>;

    /// Puts a payload together.
    fn encode(&self) -> Result<Vec<u8>, EncodeError>;

    /// With what goes into the header.
    fn encode_message(&self) -> Result<EncodedMessage, EncodeError> {
        Ok(EncodedMessage {
            extension_type: Self::EXTENSION_TYPE,
            channel_msg: Self::CHANNEL_MSG,
            msg_type: Self::MSG_TYPE,
            payload: self.encode()?,
        })
    }

    /// True for a header of this kind. The channel bit is ignored on input (SV2 3.2).
    fn is(extension_type: u16, msg_type: u8) -> bool {
        (extension_type, msg_type) == (Self::EXTENSION_TYPE, Self::MSG_TYPE)
    }
}

/// An extension whose types are known here: an unknown type of another is to be ignored.
pub(super) fn unknown(extension_type: u16, msg_type: u8) -> MessageError {
    if extension_type == CORE_EXTENSION_TYPE {
        MessageError::UnknownType { msg_type }
    } else {
        MessageError::UnknownExtension { extension_type, msg_type }
    }
}

/// The messages of one protocol in one direction, each a [`Kind`].
macro_rules! messages {
    (
        $(#[$doc:meta])*
        pub enum $name:ident<$life:lifetime> {
            $($(#[$variant_doc:meta])* $variant:ident($kind:ty),)+
        }
    ) => {
        $(#[$doc])*
        pub enum $name<$life> {
            $($(#[$variant_doc])* $variant($kind),)+
        }

        impl<$life> $name<$life> {
            $crate::message::kind::codec!($life $($variant($kind))+);
        }
    };
    (
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident($kind:ty),)+
        }
    ) => {
        $(#[$doc])*
        pub enum $name {
            $($(#[$variant_doc])* $variant($kind),)+
        }

        impl $name {
            $crate::message::kind::codec!('_ $($variant($kind))+);
        }
    };
}
pub(super) use messages;

/// What every such enum can do.
macro_rules! codec {
    ($life:lifetime $($variant:ident($kind:ty))+) => {
        /// The message that a frame holds.
        ///
        /// # Errors
        /// [`MessageError`](crate::MessageError).
        pub fn from_frame(frame: &$life crate::Frame) -> Result<Self, crate::MessageError> {
            Self::decode(&frame.header, &frame.payload)
        }

        /// The message that a payload holds, of the type that its header says. The channel bit is
        /// ignored (SV2 3.2).
        ///
        /// # Errors
        /// [`MessageError`](crate::MessageError).
        pub fn decode(
            header: &crate::FrameHeader,
            payload: &$life [u8],
        ) -> Result<Self, crate::MessageError> {
            use $crate::message::kind::Kind;
            let (extension_type, msg_type) = (header.extension_type, header.msg_type);
            $(if <$kind as Kind<'_>>::is(extension_type, msg_type) {
                return <$kind as Kind<'_>>::decode(payload).map(Self::$variant);
            })+
            Err($crate::message::kind::unknown(extension_type, msg_type))
        }

        /// Ready to be sent.
        ///
        /// # Errors
        /// [`EncodeError`](crate::message::EncodeError) when a field is longer than its type.
        pub fn encode(
            &self,
        ) -> Result<crate::message::EncodedMessage, crate::message::EncodeError> {
            match self {
                $(Self::$variant(message) => $crate::message::kind::Kind::encode_message(message),)+
            }
        }
    };
}
pub(super) use codec;
