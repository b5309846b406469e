using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Sae;

namespace KernelScope.Training;

/// <summary>A trained SAE on a device, as it would be read back from its SAELens folder, without a file.</summary>
internal sealed unsafe class MemorySae : IDisposable
{
    private const string Name = "(the SAE that is trained)";
    private const int HeaderRoom = 1 << 16;
    private readonly NativeBuffer _memory;

    /// <summary>Copies the arrays once.</summary>
    /// <exception cref="OutOfMemoryException">There is no room for them.</exception>
    public MemorySae(Device device, FoldedSae sae, TrainedPlace place)
    {
        (TensorInfo Info, ReadOnlyMemory<float> Values)[] tensors = SaeExport.SaeLensTensors(sae);
        long room = HeaderRoom + tensors.Sum(t => t.Info.ByteLength);
        _memory = NativeBuffer.TryCreate(room) ?? throw new InsufficientMemoryException();
        try
        {
            using var stream = new UnmanagedMemoryStream(_memory.Pointer, 0, room, FileAccess.Write);
            SaeExport.WriteTensors(new SafetensorsWriter(stream, tensors.Select(t => t.Info), null), tensors);
            using var config = JsonDocument.Parse(JsonFile.Line(json => SaeExport.WriteConfig(json, sae, place)).ToArray());
            SaeLensConfig.Result read = SaeLensConfig.Parse(config.RootElement, Name);
            Sae = JumpReluSae.Load(device, SaeCheckpoint.From(
                SafetensorsFile.Parse(RawFile.OfMemory(Name, _memory.Pointer, stream.Length)), SaeLayout.SaeLens, _ => read.Config,
                read.HasSkip));
        }
        catch
        {
            _memory.Dispose();
            throw;
        }
    }

    /// <summary>The SAE.</summary>
    public JumpReluSae Sae { get; }

    public void Dispose()
    {
        Sae.Dispose();
        _memory.Dispose();
    }
}
