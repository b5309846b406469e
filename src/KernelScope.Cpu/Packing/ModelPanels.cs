using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Cpu.Packing;

/// <summary>A model's packed matrices: writes them, and lets a <see cref="CpuDevice"/> read them.</summary>
/// <remarks>Any number of threads may call it.</remarks>
/// <example>
/// <code>
/// Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open("google/gemma-2-2b");
/// string path = PanelCache.BesidePath(checkpoint);
/// ModelPanels.Write(checkpoint, path);                     // once
/// using var device = new CpuDevice();
/// ModelPanels.Use(device.Panels, checkpoint, PanelFile.Open(path));
/// using var model = Gemma2Model.Load(device, checkpoint);
/// </code>
/// </example>
public static class ModelPanels
{
    /// <summary>
    /// Packs all matrices of a model into a file, which <see cref="Use"/> takes. A few MB of memory are used. No value is changed: bfloat16 takes 12 bits a value, or 16;
    /// so does a float32 matrix whose values are all bfloat16, as those of weights that were trained in it are. Others take the bytes that they have.
    /// </summary>
    /// <param name="model">The model's files.</param>
    /// <param name="path">Where; the file appears when it is complete.</param>
    /// <param name="progress">Told the share that is written.</param>
    /// <param name="cancellationToken">Stops it; nothing is left.</param>
    /// <returns>How each matrix was packed.</returns>
    /// <exception cref="IOException">It cannot be written, or would replace a file that the model is read from; nothing is left.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing is left.</exception>
    public static IReadOnlyList<PackedMatrixInfo> Write(Gemma2Checkpoint model, string path, IProgress<double>? progress = null,
        CancellationToken cancellationToken = default) =>
        Write(model, path, rounds: false, progress, cancellationToken);

    /// <summary>The same with all matrices rounded to bfloat16 (to nearest, ties to even): a model of float32 with other results. <see cref="Use"/> takes such a file only where that is asked for.</summary>
    /// <param name="model">The model's files.</param>
    /// <param name="path">Where; the file appears when it is complete.</param>
    /// <param name="progress">Told the share that is written.</param>
    /// <param name="cancellationToken">Stops it; nothing is left.</param>
    /// <returns>How each matrix was packed, and how many values were rounded.</returns>
    /// <exception cref="IOException">It cannot be written, or would replace a file that the model is read from; nothing is left.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing is left.</exception>
    public static IReadOnlyList<PackedMatrixInfo> WriteRounded(Gemma2Checkpoint model, string path, IProgress<double>? progress = null,
        CancellationToken cancellationToken = default) =>
        Write(model, path, rounds: true, progress, cancellationToken);

    /// <summary>The store of the cpu device that a device is, or passes ops on to; null where another kind of device computes, which reads no panels.</summary>
    public static PanelStore? StoreOf(Device device) => device switch
    {
        CpuDevice cpu => cpu.Panels,
        ForwardingDevice forwarding => StoreOf(forwarding.Target),
        _ => null,
    };

    /// <summary>Checks that a file holds the panels of this very model.</summary>
    /// <param name="model">The model's files.</param>
    /// <param name="panels">The file.</param>
    /// <param name="rounded">Whether it must hold rounded weights; otherwise it must not.</param>
    /// <returns>Whether all weights had to be read to see that, because their files' times do not tell.</returns>
    /// <exception cref="InvalidDataException">They were packed from other weights, or lack a matrix, or are rounded and should not be.</exception>
    public static bool Check(Gemma2Checkpoint model, PanelFile panels, bool rounded = false) => Check(model, panels, rounded, out _);

    /// <summary>
    /// Weights of the model that are created on the device from now on are read from the panels; results may then differ in the last bits, because sums run in another order.
    /// Unless this throws, the file belongs to the model's files: it is given back with them.
    /// </summary>
    /// <param name="store">The device's (<see cref="CpuDevice.Panels"/>).</param>
    /// <param name="model">The model's files, before a model is loaded from them.</param>
    /// <param name="panels">The file.</param>
    /// <param name="rounded">Whether rounded weights are wanted, and nothing else.</param>
    /// <returns>As <see cref="Check(Gemma2Checkpoint, PanelFile, bool)"/>.</returns>
    /// <exception cref="InvalidDataException">They were packed from other weights, or lack a matrix, or are rounded and should not be.</exception>
    /// <exception cref="InvalidOperationException">The device has panels of this model already.</exception>
    public static bool Use(PanelStore store, Gemma2Checkpoint model, PanelFile panels, bool rounded = false)
    {
        ArgumentNullException.ThrowIfNull(store);
        bool sourceWasRead = Check(model, panels, rounded, out List<(TensorView, PanelView)> matrices);
        IDisposable hold = panels.Hold();
        try
        {
            model.DisposeWithMappings(store.Add(matrices, hold));
        }
        catch
        {
            hold.Dispose();
            throw;
        }

        panels.Dispose();
        return sourceWasRead;
    }

    private static IReadOnlyList<PackedMatrixInfo> Write(Gemma2Checkpoint model, string path, bool rounds, IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(model);
        using IDisposable hold = model.Hold();
        return PanelFileWriter.Write(model.NotAnInput(path), model.Folder.Path, model.Weights, model.MatrixNames, rounds, progress,
            cancellationToken);
    }

    private static bool Check(Gemma2Checkpoint model, PanelFile panels, bool rounded, out List<(TensorView, PanelView)> matrices)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(panels);
        if (panels.IsRounded != rounded)
        {
            throw BadFile.At(panels.Path, rounded
                ? "its weights are not rounded, and rounded ones were asked for."
                : "its weights were rounded to bfloat16; they are used only where that is asked for.");
        }

        bool sourceWasRead = panels.RequireSource(model.Weights, model.MatrixNames);
        matrices = [];
        foreach (string name in model.MatrixNames)
        {
            model.Weights.TryGet(name, out TensorView matrix);
            matrices.Add((matrix, panels[matrix]));
        }

        return sourceWasRead;
    }
}
