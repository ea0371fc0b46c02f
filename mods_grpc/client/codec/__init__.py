"""Between protobuf messages and the numpy, datetime and result types of callers."""
