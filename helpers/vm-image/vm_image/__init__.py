"""vm-image: builds, lists and removes guest image bundles. See vm-image(8) and vmsilo-image(5)."""
