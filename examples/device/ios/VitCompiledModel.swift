// Classify on the GPU with LiteRT's CompiledModel. Not run here: there is no Xcode.
//
// Add the Swift package https://github.com/google-ai-edge/LiteRT (branch release/2.3.0) with
// its products LiteRT and LiteRtMetalAccelerator, and to the app's target the file of
//   vit-export tflite RUN/model.keras model.tflite --scheme float32 --target gpu

import Foundation
import LiteRT

final class VitCompiledModel {
  private let model: CompiledModel

  init() throws {
    guard let path = Bundle.main.path(forResource: "model", ofType: "tflite") else {
      throw CocoaError(.fileNoSuchFile)
    }
    let options = try Options()
    try options.setHardwareAccelerators([.gpu, .cpu])
    model = try CompiledModel(filePath: path, environment: Environment(), options: options)
  }

  /// What the model gives for pixels of the input's size, RGB 0..255 row by row: logits.
  func classify(_ pixels: [Float]) throws -> [Float] {
    let inputs = try model.createInputBuffers()
    let outputs = try model.createOutputBuffers()
    try inputs[0].write(pixels)
    try model.run(inputs: inputs, outputs: outputs)
    return try outputs[0].read()
  }
}
