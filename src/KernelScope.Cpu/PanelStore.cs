using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>The packed matrices that a cpu device reads in the place of files' matrices; it looks them up when a weight is created.</summary>
/// <remarks>
/// <see cref="Packing.ModelPanels.Use"/> puts a model's panels there; they stay until the model's files are given back. Any number of threads may use it.
/// </remarks>
public sealed class PanelStore
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(object Owner, string Name), PanelView> _panels = [];

    internal PanelStore()
    {
    }

    /// <summary>The panels of a matrix; none where there are none.</summary>
    internal PanelView Find(in TensorView matrix)
    {
        lock (_lock)
            return _panels.GetValueOrDefault((matrix.Owner, matrix.Name));
    }

    /// <summary>Lets weights that are created from now on use panels, until the result is disposed.</summary>
    /// <param name="matrices">Matrices stored [out, in], and their panels.</param>
    /// <param name="hold">Keeps the panels; disposed with the result.</param>
    /// <exception cref="InvalidOperationException">A matrix has panels already.</exception>
    internal IDisposable Add(IReadOnlyCollection<(TensorView Matrix, PanelView Panels)> matrices, IDisposable hold)
    {
        lock (_lock)
        {
            foreach ((TensorView matrix, _) in matrices)
            {
                if (_panels.ContainsKey((matrix.Owner, matrix.Name)))
                    throw new InvalidOperationException($"{matrix.Describe()} has panels already.");
            }

            foreach ((TensorView matrix, PanelView panels) in matrices)
                _panels.Add((matrix.Owner, matrix.Name), panels);
        }

        return new Entry(this, [.. matrices.Select(m => (m.Matrix.Owner, m.Matrix.Name))], hold);
    }

    private sealed class Entry(PanelStore store, (object Owner, string Name)[] keys, IDisposable hold) : IDisposable
    {
        public void Dispose()
        {
            lock (store._lock)
            {
                foreach ((object Owner, string Name) key in keys)
                    store._panels.Remove(key);
            }

            hold.Dispose();
        }
    }
}
