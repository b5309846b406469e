using KernelScope.Cli;

Avx512File.RunIfBetter();
return CommandLine.Run(args);
