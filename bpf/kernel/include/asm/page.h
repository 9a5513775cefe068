/* BCC sizes its rings in pages. */
#define PAGE_SIZE 4096
