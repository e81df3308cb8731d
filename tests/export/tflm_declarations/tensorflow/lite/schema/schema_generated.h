#pragma once
#define TFLITE_SCHEMA_VERSION 3

namespace tflite {

class Model {
 public:
  unsigned int version() const;
};

const Model* GetModel(const void* data);

}  // namespace tflite
