/* Included by BCC's own headers; nothing of it is needed here. */
