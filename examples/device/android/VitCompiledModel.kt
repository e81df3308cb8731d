// Classify on the GPU with LiteRT's CompiledModel. Not run here: there is no Android SDK.
//
//   // build.gradle.kts
//   implementation("com.google.ai.edge.litert:litert:2.3.0")
//   implementation("com.google.ai.edge.litert:litert-gpu:2.3.0")
//
//   vit-export tflite RUN/model.keras model.tflite --scheme float32 --target gpu
//
// and put model.tflite into src/main/assets. For the NPU of a Qualcomm chip, Accelerator.NPU
// and the file that `vit-export compile --target qualcomm --soc ...` wrote.

import android.content.res.AssetManager
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

class VitCompiledModel(assets: AssetManager, private val size: Int) : AutoCloseable {
  private val model = CompiledModel.create(
    assets, "model.tflite", CompiledModel.Options(Accelerator.GPU)
  )
  private val inputs = model.createInputBuffers()
  private val outputs = model.createOutputBuffers()

  /** What the model gives for a photograph that has the input's shape: logits. */
  fun classify(photo: Bitmap): FloatArray {
    val resized = Bitmap.createScaledBitmap(photo, size, size, true)
    val colours = IntArray(size * size)
    resized.getPixels(colours, 0, size, 0, 0, size, size)
    val pixels = FloatArray(3 * colours.size)  // RGB 0..255, normalised in the file
    colours.forEachIndexed { i, colour ->
      pixels[3 * i] = (colour shr 16 and 255).toFloat()
      pixels[3 * i + 1] = (colour shr 8 and 255).toFloat()
      pixels[3 * i + 2] = (colour and 255).toFloat()
    }
    inputs[0].writeFloat(pixels)
    model.run(inputs, outputs)
    return outputs[0].readFloat()
  }

  override fun close() {
    (inputs + outputs).forEach { it.close() }
    model.close()
  }
}
