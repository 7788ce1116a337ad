"""tfdense in the interfaces of tool boxes that hold many matchers."""
