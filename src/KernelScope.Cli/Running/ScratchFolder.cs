namespace KernelScope.Cli;

/// <summary>A temporary folder of this process, gone when it is disposed; what killed processes left of theirs goes when the next one is made.</summary>
internal sealed class ScratchFolder : IDisposable
{
    private const string Prefix = "kernelscope-", LockName = ".kernelscope-in-use";
    private readonly FileStream _lock;

    public ScratchFolder()
    {
        Sweep();
        FolderPath = Directory.CreateTempSubdirectory(Prefix).FullName;
        _lock = new FileStream(Path.Combine(FolderPath, LockName), FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
    }

    private string FolderPath { get; }

    /// <summary>The path of a file in it.</summary>
    public string At(string name) => Path.Combine(FolderPath, name);

    public void Dispose()
    {
        _lock.Dispose();
        Directory.Delete(FolderPath, recursive: true);
    }

    // Only a folder that holds our mark, which nobody holds open.
    private static void Sweep()
    {
        foreach (DirectoryInfo folder in new DirectoryInfo(Path.GetTempPath()).EnumerateDirectories(Prefix + "*"))
        {
            string mark = Path.Combine(folder.FullName, LockName);
            if (folder.LinkTarget is not null || !File.Exists(mark))
                continue;
            try
            {
                using (new FileStream(mark, FileMode.Open, FileAccess.ReadWrite, FileShare.None, bufferSize: 0))
                    folder.Delete(recursive: true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // In use, or another user's.
            }
        }
    }
}
