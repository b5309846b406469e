using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>A folder that appears whole or not at all: written under a temporary name beside its place, then renamed. Disposed without <see cref="Commit"/> it leaves nothing.</summary>
/// <remarks>
/// What a killed run left goes when the next one writes the same folder; where that may replace a folder, once the new one is complete.
/// </remarks>
internal sealed class FolderInProgress : IDisposable
{
    private const string MarkName = ".kernelscope-in-use";
    private readonly string _target;
    private readonly FileStream _mark;
    private readonly Func<string, bool>? _mayReplace;
    private bool _ended;

    private FolderInProgress(string target, string path, Func<string, bool>? mayReplace)
    {
        _target = target;
        _mayReplace = mayReplace;
        Path = path;
        Directory.CreateDirectory(path);
        _mark = new FileStream(At(MarkName), FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
    }

    /// <summary>Where files go for now.</summary>
    public string Path { get; }

    /// <summary>The path of a file in it.</summary>
    public string At(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Starts a folder; there must be none of that name, an empty one, or one that may be replaced.</summary>
    /// <param name="path">Its place.</param>
    /// <param name="mayReplace">Whether a folder that holds something may go; null: none may.</param>
    /// <exception cref="WorkException">Something is there, or it cannot be made.</exception>
    public static FolderInProgress Create(string path, Func<string, bool>? mayReplace = null)
    {
        string target = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        try
        {
            // Through a link: what it names is filled, and the link stays.
            if (new DirectoryInfo(target) is { LinkTarget: not null } link && link.ResolveLinkTarget(returnFinalTarget: true) is { } linked)
                target = System.IO.Path.TrimEndingDirectorySeparator(linked.FullName);
            if (File.Exists(target))
                throw new WorkException($"{Printable.Escape(path)}: there is a file of that name; a folder is written there.");
            if (!IsFree(target, mayReplace))
                throw new WorkException($"{Printable.Escape(path)}: the folder is not empty; choose another, or empty it first.");
            if (System.IO.Path.GetDirectoryName(target) is not string parent || !Directory.Exists(parent))
                throw new WorkException($"{Printable.Escape(path)}: there is no folder above it to write it in.");
            if (mayReplace is null)
                Sweep(parent, System.IO.Path.GetFileName(target));
            return new FolderInProgress(target, TemporaryName.For(target), mayReplace);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WorkException($"{Printable.Escape(path)}: the folder cannot be written ({AtomicFile.Reason(e)}).");
        }
    }

    /// <summary>Gives the folder its name.</summary>
    /// <exception cref="WorkException">Something came to be there meanwhile, or it cannot be renamed.</exception>
    public void Commit()
    {
        try
        {
            _mark.Dispose();
            File.Delete(At(MarkName));
            if (Directory.Exists(_target) && Directory.EnumerateFileSystemEntries(_target).Any())
                Replace();
            else
                Place();
            _ended = true;
            Sweep(System.IO.Path.GetDirectoryName(_target)!, System.IO.Path.GetFileName(_target));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WorkException($"{Printable.Escape(_target)}: the folder cannot be written ({AtomicFile.Reason(e)}).");
        }
    }

    public void Dispose()
    {
        if (_ended)
            return;
        _ended = true;
        _mark.Dispose();
        Directory.Delete(Path, recursive: true);
    }

    private static bool IsFree(string target, Func<string, bool>? mayReplace) =>
        !Directory.Exists(target) || !Directory.EnumerateFileSystemEntries(target).Any() || mayReplace?.Invoke(target) is true;

    private void Place()
    {
        // Fails where somebody put something into it meanwhile.
        if (Directory.Exists(_target))
            Directory.Delete(_target);
        Directory.Move(Path, _target);
    }

    /// <summary>The old folder steps aside, and comes back if the new one cannot take its place.</summary>
    private void Replace()
    {
        if (!IsFree(_target, _mayReplace))
            throw new IOException("something came to be there meanwhile");
        string old = TemporaryName.For(_target);
        Directory.Move(_target, old);
        try
        {
            Directory.Move(Path, _target);
        }
        catch
        {
            Directory.Move(old, _target);
            throw;
        }
    }

    private static void Sweep(string parent, string name)
    {
        foreach (DirectoryInfo folder in new DirectoryInfo(parent).EnumerateDirectories(name + ".*"))
        {
            if (folder.LinkTarget is not null || TemporaryName.TargetOf(folder.Name) != name)
                continue;
            try
            {
                // Fails while another process writes it.
                string mark = System.IO.Path.Combine(folder.FullName, MarkName);
                using (new FileStream(mark, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0))
                    folder.Delete(recursive: true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // In use, or another user's.
            }
        }
    }
}
