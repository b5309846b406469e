using System.Diagnostics.CodeAnalysis;

namespace KernelScope.Files;

/// <summary>
/// A file of named tensors, memory-mapped and used in place. What a weight file is to everyone above.
/// <para>
/// A file that another process shortens while it is mapped ends this process at the next touch of the missing part (SIGBUS on Unix): the operating system offers no other answer.
/// Who cannot rule that out reads the file into memory instead (<c>intoMemory</c> where files are opened, <c>--no-map</c> on the command line): loading then takes the time and memory of a copy.
/// Headers are read with ordinary reads and the length is checked again after mapping, so only the weights themselves are exposed to this. Replace weight files by renaming, never in place.
/// </para>
/// </summary>
/// <remarks>Any number of threads may read it and dispose it. A model or SAE that was loaded from it keeps the mapping, and so does a copy that runs (<see cref="TensorCopy"/>); after that it throws <see cref="ObjectDisposedException"/>.</remarks>
public abstract class TensorFile : IDisposable
{
    private readonly UseCount _uses;

    /// <summary>A tensor file at a path.</summary>
    private protected TensorFile(string path)
    {
        Path = path;
        _uses = new UseCount(path, () => Dispose(true));
    }

    /// <summary>The path it was opened by.</summary>
    public string Path { get; }

    /// <summary>What the file holds, in file order; costs nothing.</summary>
    public abstract IReadOnlyList<TensorInfo> Contents { get; }

    /// <summary>All tensors, in file order. The first use expands every compressed entry.</summary>
    public IReadOnlyList<TensorView> Tensors => field ??= [.. Contents.Select(info => this[info.Name])];

    /// <summary>The tensor of this name (case matters), if the file has it.</summary>
    /// <exception cref="InvalidDataException">The file has it, compressed, and its data is damaged.</exception>
    public abstract bool TryGet(string name, out TensorView tensor);

    /// <summary>The tensor of this name.</summary>
    /// <exception cref="InvalidDataException">The file has none, or its data is damaged.</exception>
    [SuppressMessage("Design", "CA1065", Justification = "A missing tensor is bad data of the file, and says so; KeyNotFoundException " +
        "would not.")]
    public TensorView this[string name] => TryGet(name, out TensorView tensor) ? tensor
        : throw BadFile.At(Path, $"there is no tensor {BadFile.Quote(name)} in it.");

    /// <summary>Gives the mapping back, as soon as no model, SAE or copy reads it. Views of this file must no longer be used.</summary>
    public void Dispose()
    {
        _uses.EndOwner();
        GC.SuppressFinalize(this);
    }

    /// <summary>Keeps the mapping until <see cref="Exit"/>.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    internal void Enter() => _uses.Enter();

    /// <summary>Ends what <see cref="Enter"/> began.</summary>
    internal void Exit() => _uses.Exit();

    /// <summary>Keeps the mapping until the result is disposed, whatever becomes of the file meanwhile.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    internal IDisposable Hold() => _uses.Hold();

    /// <summary>Releases what the file holds.</summary>
    protected abstract void Dispose(bool disposing);
}
